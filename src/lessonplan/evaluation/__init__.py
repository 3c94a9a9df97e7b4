"""What can be evaluated: options, parts, measures. The functions themselves are in ``evaluate``."""

from lessonplan.evaluation.options import PARTS, Evaluation, EvaluationPart, TestTime

__all__ = ["PARTS", "Evaluation", "EvaluationPart", "TestTime"]
