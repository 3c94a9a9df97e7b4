"""Table 2.1 of the thesis, its normality, and its two claims, from the runs of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lessonplan.order.perfect import Tree

Floats = NDArray[np.float64]

THESIS_CITATION = "Deep Learning Training Procedure Augmentations (arXiv:2211.14395), section 2.2, table 2.1"
# epoch 1 to 13: lowest, mean and highest accuracy, lowest and highest loss
THESIS_TABLE = (
    (0.671, 0.776, 0.903, 2.393, 2.449),
    (0.894, 0.937, 0.961, 1.643, 1.714),
    (0.959, 0.966, 0.971, 0.983, 1.023),
    (0.965, 0.973, 0.976, 0.626, 0.767),
    (0.972, 0.976, 0.980, 0.431, 0.582),
    (0.975, 0.980, 0.982, 0.322, 0.429),
    (0.979, 0.982, 0.985, 0.254, 0.294),
    (0.976, 0.983, 0.987, 0.217, 0.324),
    (0.979, 0.987, 0.990, 0.190, 0.294),
    (0.976, 0.989, 0.992, 0.178, 0.345),
    (0.979, 0.990, 0.993, 0.162, 0.320),
    (0.986, 0.991, 0.994, 0.144, 0.237),
    (0.984, 0.994, 0.995, 0.126, 0.269),
)
_LEAST_FOR_NORMALITY = 20  # the test's own lower limit for its kurtosis part

CLAIMS = (
    ("max-over-min", 4, "The highest accuracy after N epochs is above the lowest after N + 4."),
    ("max-over-mean", 1, "The highest accuracy after N epochs is above the mean after N + 1."),
)


def summarise_epoch(epoch: int, trees: Sequence[Tree]) -> dict[str, Any]:
    """A row of table 2.1, with the spread and shape of both measures.

    Diverged runs (a loss that is not finite) are counted and left out of the losses.
    """
    accuracy = np.concatenate([tree.accuracy.numpy() for tree in trees])
    loss = np.concatenate([tree.loss.numpy() for tree in trees])
    finite = loss[np.isfinite(loss)]
    return {
        "epoch": epoch,
        "trees": len(trees),
        "runs": len(accuracy),
        "diverged": len(loss) - len(finite),
        "accuracy": describe(accuracy),
        "loss": describe(finite),
    }


def describe(values: Floats) -> dict[str, float | None]:
    """Lowest, mean, highest, standard deviation, skewness, excess kurtosis, and the test of normality.

    The test is D'Agostino and Pearson's K squared (1973), from skewness and kurtosis; its p is None for fewer
    than 20 values or equal ones. A small p says that the values are not normal.

    >>> describe(np.array([1.0, 2.0, 3.0]))["mean"]
    2.0
    """
    if len(values) == 0:
        return dict.fromkeys(("min", "mean", "max", "std", "skewness", "kurtosis", "normal_p"))
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    shaped = len(values) >= _LEAST_FOR_NORMALITY and spread > 1e-12 * max(1.0, float(np.abs(values).max()))
    return {
        "min": float(values.min()),
        "mean": float(values.mean()),
        "max": float(values.max()),
        "std": spread,
        "skewness": float(stats.skew(values)) if shaped else None,
        "kurtosis": float(stats.kurtosis(values)) if shaped else None,
        "normal_p": float(stats.normaltest(values).pvalue) if shaped else None,
    }


def judge_claims(epochs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each of the thesis' claims the epochs N where it holds, in a table of our own form.

    Args:
        epochs: rows with ``epoch`` and ``accuracy`` (``min``, ``mean``, ``max``), in order.

    Returns:
        Per claim its text, the epochs N that could be compared, those where it holds, and where both sides are
        equal as far as the table goes.
    """
    rows = {row["epoch"]: row["accuracy"] for row in epochs}
    found = []
    for name, later, text in CLAIMS:
        other = "min" if name == "max-over-min" else "mean"
        compared = [n for n in rows if n + later in rows]
        pairs = {n: (rows[n]["max"], rows[n + later][other]) for n in compared}
        found.append(
            {
                "name": name,
                "text": text,
                "compared": compared,
                "holds": [n for n, (high, low) in pairs.items() if high > low and not math.isclose(high, low)],
                "equal": [n for n, (high, low) in pairs.items() if math.isclose(high, low)],
            }
        )
    return found


def thesis_epochs() -> list[dict[str, Any]]:
    """The thesis' table in the form of ours."""
    return [
        {
            "epoch": number,
            "accuracy": {"min": low, "mean": mean, "max": high},
            "loss": {"min": low_loss, "max": high_loss},
        }
        for number, (low, mean, high, low_loss, high_loss) in enumerate(THESIS_TABLE, start=1)
    ]
