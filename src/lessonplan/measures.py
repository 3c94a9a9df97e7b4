"""Numbers by name: which there are, how people call them, and which are shares."""

from __future__ import annotations

from lessonplan.errors import unknown
from lessonplan.evaluation import PARTS

JUDGED = {
    "accuracy": "Accuracy %",
    "loss": "Mean loss",
    "loss_q90": "90% quantile of the loss",
    "loss_worst": "Worst loss",
}
"""What is measured of the test set and of the whole training set; ``loss_q90`` is the .9 quantile of the samples'
losses."""
OF_TEST, OF_TRAINING = ([f"{part}_{name}" for name in JUDGED] for part in ("test", "train"))
BALANCED = {"test_balanced_accuracy": "Balanced accuracy %", "test_macro_f1": "Macro F1 %"}
"""What is measured of the test set alone: the means of the classes' accuracies and of their F1."""
COUNTERS = (
    "steps", "epochs", "samples", "raw_samples", "cost", "forwarded", "backpropagated", "seconds", "param_norm",
)  # fmt: skip
"""What a run has used, and the norm of its weights."""
RUN_COLUMNS = (*OF_TEST, *BALANCED, "val_accuracy", "fluctuation", *OF_TRAINING, *COUNTERS)
"""What ``results.json`` holds of a run; ``fluctuation`` is the mean absolute change of the validation accuracy
from one validation to the next."""

_EVALUATED = {name for part in PARTS for name in (*part.shares, *part.numbers)}
_SHARES = {
    *("test_accuracy", "val_accuracy", "train_accuracy", "fluctuation"),
    *BALANCED,
    *(name for part in PARTS for name in part.shares),
}
_DERIVED = {f"{name}_{kind}" for name in JUDGED for kind in ("ratio", "gap")}
_WORDS = {
    "fgsm": "FGSM", "bim": "BIM", "mim": "MIM", "pgd": "PGD", "autoattack": "AutoAttack", "ttsa": "test-time sums",
    "mi": "Mixup Inference", "ood": "other data", "tnr": "TNR", "tpr95": "TPR 95%", "auroc": "AUROC",
    "top5": "top-5", "f1": "F1", "val": "validation", "train": "training",
}  # fmt: skip


def check_measure(name: str) -> str:
    """The name itself, if there is such a measure.

    Besides the columns of a run and the measures of an evaluation: ``X_ratio`` is test / training, ``X_gap`` its
    distance from 1, ``|ln(test / training)|`` (ASSIST section 4.3), ``X_error`` is 1 minus ``X_accuracy``.

    Raises:
        ConfigError: there is none.

    >>> check_measure("loss_gap"), check_measure("pgd_error")
    ('loss_gap', 'pgd_error')
    """
    known = {*RUN_COLUMNS, *_EVALUATED, *_DERIVED, "epochs_per_second"}
    if name not in known and accuracy_of(name) is None:
        raise unknown("measure", name, sorted(known))
    return name


def accuracy_of(measure: str) -> str | None:
    """The accuracy that an error is 1 minus of; None for what is no such error.

    >>> accuracy_of("test_error"), accuracy_of("calibration_error")
    ('test_accuracy', None)
    """
    accuracy = f"{measure.removesuffix('_error')}_accuracy"
    return accuracy if measure.endswith("_error") and accuracy in _SHARES else None


def is_share(measure: str) -> bool:
    """Whether a number is a share in [0, 1], which people read in per cent.

    >>> is_share("pgd_accuracy"), is_share("pgd_error"), is_share("between_gradient_norm")
    (True, True, False)
    """
    return measure in _SHARES or accuracy_of(measure) is not None


def measure_words(name: str) -> str:
    """A number's name for people.

    >>> measure_words("pgd_adaptive_accuracy")
    'PGD adaptive accuracy'
    """
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))
