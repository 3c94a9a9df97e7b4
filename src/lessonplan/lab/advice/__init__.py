"""Advice: a tournament of plans on a user's own data, within a given time."""

from lessonplan.lab.advice.advising import Advice, advise

__all__ = ["Advice", "advise"]
