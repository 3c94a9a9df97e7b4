"""Experiments: comparisons, their statistics, and recipes that reproduce the sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessonplan.lazy import importer

if TYPE_CHECKING:
    from lessonplan.lab.advice import advise
    from lessonplan.lab.comparison import compare
    from lessonplan.lab.data_check import check_data
    from lessonplan.lab.reproduction import reproduce
    from lessonplan.lab.tuning import tune

__all__ = ["advise", "check_data", "compare", "reproduce", "tune"]

# Imported when used: a process that does one job would wait for all of them.
__getattr__ = importer(
    __name__,
    {
        "advise": "lessonplan.lab.advice",
        "check_data": "lessonplan.lab.data_check",
        "compare": "lessonplan.lab.comparison",
        "reproduce": "lessonplan.lab.reproduction",
        "tune": "lessonplan.lab.tuning",
    },
)
