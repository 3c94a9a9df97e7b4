"""What a recipe compares: a run's values, and test against training (ASSIST section 4.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator

from lessonplan.measures import accuracy_of, check_measure, is_share

Measure: TypeAlias = Annotated[str, AfterValidator(check_measure)]
"""A name that ``lessonplan.measures.check_measure`` knows."""


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
        if (right := accuracy_of(measure)) is not None:
            accuracy = _stored(run, right)
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
    return (100.0, " points") if is_share(measure) else (1.0, "")


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
