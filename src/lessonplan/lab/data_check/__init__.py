"""A look at the data before any training: copies, suspects of wrong labels, differences between parts."""

from lessonplan.lab.data_check.checking import DataCheck, check_data

__all__ = ["DataCheck", "check_data"]
