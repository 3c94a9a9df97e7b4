"""Numbers by name: which there are, how people call them, and which are shares."""

from __future__ import annotations

from typing import Literal

EvaluationMeasure = Literal[
    "top5_accuracy", "calibration_error", "clean_accuracy",
    "ttsa_accuracy", "mi_predicted_accuracy", "mi_other_accuracy",
    "fgsm_accuracy", "bim_accuracy", "mim_accuracy", "pgd_accuracy", "autoattack_accuracy",
    "fgsm_top5_accuracy", "bim_top5_accuracy", "mim_top5_accuracy", "pgd_top5_accuracy",
    "autoattack_top5_accuracy",
    "fgsm_no_gradient", "bim_no_gradient", "mim_no_gradient", "pgd_no_gradient", "autoattack_no_gradient",
    "fgsm_margin_accuracy", "bim_margin_accuracy", "mim_margin_accuracy", "pgd_margin_accuracy",
    "clean_undefended_accuracy", "clean_transfer_accuracy",
    "fgsm_undefended_accuracy", "fgsm_transfer_accuracy", "fgsm_adaptive_accuracy", "fgsm_robust_accuracy",
    "bim_undefended_accuracy", "bim_transfer_accuracy", "bim_adaptive_accuracy", "bim_robust_accuracy",
    "mim_undefended_accuracy", "mim_transfer_accuracy", "mim_adaptive_accuracy", "mim_robust_accuracy",
    "pgd_undefended_accuracy", "pgd_transfer_accuracy", "pgd_adaptive_accuracy", "pgd_robust_accuracy",
    "ood_tnr_at_tpr95", "ood_auroc", "ood_detection_accuracy",
    "localisation_accuracy", "localisation_known_accuracy", "max_box_accuracy",
    "between_miss", "between_gradient_norm",
    "train_error_real", "train_error_corrupted", "val_error_best", "val_error_last",
]  # fmt: skip
"""``X_accuracy`` is under attack X; ``undefended``, ``transfer``, ``adaptive`` and ``robust`` are the columns of
the table of defences, on fewer images, the last one the smaller of the two before it."""

EvaluationError = Literal[
    "test_error", "val_error", "clean_error", "ttsa_error", "fgsm_error", "bim_error", "mim_error", "pgd_error",
    "fgsm_top5_error", "bim_top5_error", "mim_top5_error", "pgd_top5_error",
]  # fmt: skip
"""1 minus the accuracy of the same name."""

NO_SHARES = ("calibration_error", "between_gradient_norm")
_WORDS = {
    "fgsm": "FGSM", "bim": "BIM", "mim": "MIM", "pgd": "PGD", "autoattack": "AutoAttack", "ttsa": "test-time sums",
    "mi": "Mixup Inference", "ood": "other data", "tnr": "TNR", "tpr95": "TPR 95%", "auroc": "AUROC",
    "top5": "top-5", "val": "validation", "train": "training",
}  # fmt: skip


def is_share(measure: str) -> bool:
    """Whether a number of an evaluation is a share in [0, 1], which people read in per cent.

    >>> is_share("pgd_accuracy"), is_share("between_gradient_norm")
    (True, False)
    """
    return measure not in NO_SHARES


def measure_words(name: str) -> str:
    """A number's name for people.

    >>> measure_words("pgd_adaptive_accuracy")
    'PGD adaptive accuracy'
    """
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))
