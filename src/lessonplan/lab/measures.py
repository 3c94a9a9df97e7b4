"""What a recipe compares: a run's values, and test against training (ASSIST section 4.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from lessonplan.measures import EvaluationError, EvaluationMeasure, is_share

OfTraining = Literal[
    "test_accuracy", "train_accuracy", "accuracy_ratio",
    "test_loss", "train_loss", "loss_ratio", "loss_gap",
    "test_loss_q90", "train_loss_q90", "loss_q90_ratio", "loss_q90_gap",
    "test_loss_worst", "train_loss_worst", "loss_worst_ratio",
    "param_norm", "epochs_per_second", "fluctuation",
]  # fmt: skip
"""``test_X`` and ``train_X`` are of the test and of the whole training set; a ratio is test / train, a gap its
distance from 1, ``|ln(test / train)|``. ``loss_q90`` is the .9 quantile of the samples' losses; ``fluctuation`` is
the mean absolute change of the validation accuracy from one validation to the next."""

Measure: TypeAlias = OfTraining | EvaluationMeasure | EvaluationError
_EVALUATED = (*get_args(EvaluationMeasure), *get_args(EvaluationError))

_SHARES = ("test_accuracy", "train_accuracy", "fluctuation")


def measured(run: Mapping[str, Any], measure: Measure) -> float | None:
    """A measure of one finished run.

    Args:
        run: a row of ``results.json``.
        measure: what is wanted.

    Returns:
        the value; None if the run lacks what it is made of, or a divisor is 0.

    >>> row = {"test_loss": 0.5, "train_loss": 0.25, "param_norm": 3.0}
    >>> measured(row, "param_norm"), measured(row, "loss_ratio"), measured(row, "accuracy_ratio")
    (3.0, 2.0, None)
    >>> round(measured(row, "loss_gap"), 3)  # ln 2
    0.693
    >>> measured({"test_accuracy": 0.75, "evaluation": {"pgd_accuracy": 0.5}}, "pgd_error")
    0.5
    """
    stem, _, kind = measure.rpartition("_")
    if measure == "epochs_per_second":
        return _quotient(run.get("epochs"), run.get("seconds"))
    if kind not in ("ratio", "gap"):
        if measure in get_args(EvaluationError):
            accuracy = _stored(run, f"{stem}_accuracy")
            return None if accuracy is None else 1 - accuracy
        value = _stored(run, measure)
        return None if value is None else float(value)
    ratio = _quotient(run.get(f"test_{stem}"), run.get(f"train_{stem}"))
    if kind == "ratio" or ratio is None:
        return ratio
    return abs(math.log(ratio)) if ratio > 0 else None


def in_unit(measure: Measure) -> tuple[float, str]:
    """Factor and unit in which a difference of a measure is written.

    >>> in_unit("test_accuracy"), in_unit("test_loss")
    ((100.0, ' points'), (1.0, ''))
    """
    share = measure in _SHARES or (measure in _EVALUATED and is_share(measure))
    return (100.0, " points") if share else (1.0, "")


def mean_of(runs: list[dict[str, Any]], measure: Measure) -> float | None:
    """The mean of a measure over the runs that have it; None without any."""
    values = [value for run in runs if (value := measured(run, measure)) is not None]
    return sum(values) / len(values) if values else None


def _stored(run: Mapping[str, Any], name: str) -> float | None:
    """A number of the run itself, or of its evaluation."""
    found: float | None = run[name] if name in run else (run.get("evaluation") or {}).get(name)
    return found


def _quotient(over: float | None, under: float | None) -> float | None:
    return None if over is None or not under else over / under
