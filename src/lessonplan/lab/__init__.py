"""Experiments: comparisons, their statistics, and recipes that reproduce the sources."""

from lessonplan.lab.comparison import compare
from lessonplan.lab.reproduction import reproduce

__all__ = ["compare", "reproduce"]
