"""Experiments: comparisons, their statistics, and recipes that reproduce the sources."""

from lessonplan.lab.compare import compare
from lessonplan.lab.reproduce import reproduce

__all__ = ["compare", "reproduce"]
