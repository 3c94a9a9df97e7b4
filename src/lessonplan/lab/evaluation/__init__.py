"""Evaluation of a trained network: what ``lessonplan evaluate`` and the recipes do."""

from lessonplan.evaluation import Evaluation, TestTime
from lessonplan.lab.evaluation.running import evaluate
from lessonplan.lab.evaluation.subject import Subject, model_subject, run_subject, subject_of

__all__ = ["Evaluation", "Subject", "TestTime", "evaluate", "model_subject", "run_subject", "subject_of"]
