"""Adversarial examples in the L-infinity ball, and how many predictions survive them."""

from lessonplan.evaluate.adversarial.attacks import Perturbed, bim, fgsm, margin, mim, pgd
from lessonplan.evaluate.adversarial.autoattack import autoattack
from lessonplan.evaluate.adversarial.pixels import PixelModel, check_eps
from lessonplan.evaluate.adversarial.robustness import (
    Attack,
    DefenceRow,
    Robustness,
    adaptive_accuracy,
    craft,
    defence_table,
    judge,
    robust_accuracy,
    robustness_curve,
)

__all__ = [
    "Attack",
    "DefenceRow",
    "Perturbed",
    "PixelModel",
    "Robustness",
    "adaptive_accuracy",
    "autoattack",
    "bim",
    "check_eps",
    "craft",
    "defence_table",
    "fgsm",
    "judge",
    "margin",
    "mim",
    "pgd",
    "robust_accuracy",
    "robustness_curve",
]
