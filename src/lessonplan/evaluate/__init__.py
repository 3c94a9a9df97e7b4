"""Evaluation as functions of tensors and modules: test-time sums, attacks, novelty, localisation.

Nothing here reads files or prints; all randomness comes from generators that are given.
"""

from lessonplan.evaluate import adversarial, localise
from lessonplan.evaluate.between import Between, between_samples, input_gradient_norm
from lessonplan.evaluate.classification import (
    Reliability,
    calibration_error,
    classification_metrics,
    detailed_metrics,
    loss_summary,
    parameter_norm,
    reliability,
)
from lessonplan.evaluate.defence import RandomisedDefence
from lessonplan.evaluate.mixup_inference import MixupInference
from lessonplan.evaluate.network import predict_logits
from lessonplan.evaluate.ood import (
    OODMetrics,
    gaussian_noise,
    max_softmax,
    ood_metrics,
    ood_report,
    uniform_noise,
)
from lessonplan.evaluate.ttsa import TestTimeSum, sum_predict
from lessonplan.evaluate.ttsa_curves import accuracy_by_copies, accuracy_by_weight

__all__ = [
    "Between",
    "MixupInference",
    "OODMetrics",
    "RandomisedDefence",
    "Reliability",
    "TestTimeSum",
    "accuracy_by_copies",
    "accuracy_by_weight",
    "adversarial",
    "between_samples",
    "calibration_error",
    "classification_metrics",
    "detailed_metrics",
    "gaussian_noise",
    "input_gradient_norm",
    "localise",
    "loss_summary",
    "max_softmax",
    "ood_metrics",
    "ood_report",
    "parameter_norm",
    "predict_logits",
    "reliability",
    "sum_predict",
    "uniform_noise",
]
