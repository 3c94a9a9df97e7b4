"""Tuning: a search over the numbers of one plan, each trial at the same cost, judged on validation samples."""

from lessonplan.lab.tuning.tuning import Tuning, tune

__all__ = ["Tuning", "tune"]
