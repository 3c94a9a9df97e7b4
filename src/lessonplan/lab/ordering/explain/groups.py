"""A tree's orders as numbers that can be put beside other trees': ranks of losses, standardised features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lessonplan.lab.ordering.explain.batches import Floats
from lessonplan.lab.ordering.explain.features import Orders
from lessonplan.lab.statistics import Difference

Rows = NDArray[np.int64]
LEAST = 3
"""Orders of a tree that has a best, a middle and a worst one."""
_EQUAL = 1e-9  # of the largest value: a spread that is rounding


@dataclass(frozen=True)
class Group:
    """The orders from one start.

    Attributes:
        epoch: in which.
        start: number of the start.
        orders: ``(P, n)``.
        loss: ``(P,)``; what is not finite is worst.
        features: ``(P,)`` by name, each with mean 0 and variance 1; those that are the same for all orders are
            left out.
        oracle: ``(P,)``, what the evaluation samples themselves foretell of the loss; None where it is not known.
    """

    epoch: int
    start: int
    orders: Orders
    loss: Floats
    features: Mapping[str, Floats]
    oracle: Floats | None = None

    @property
    def ranks(self) -> Floats:
        """``(P,)``: mean rank of each loss among the tree's, scaled to -0.5 (lowest) .. 0.5."""
        return ranked(self.loss)


def make_group(
    epoch: int,
    start: int,
    orders: Orders,
    loss: Floats,
    features: Mapping[str, Floats],
    oracle: Floats | None = None,
) -> Group | None:
    """A group of standardised features; None of a tree that has too few orders, or only one loss."""
    known = np.where(np.isfinite(loss), loss, np.inf)
    if len(known) < LEAST or np.all(known == known[0]):
        return None
    scaled = {name: standardised(values) for name, values in features.items()}
    varying = {name: z for name, z in scaled.items() if z is not None}
    return Group(epoch, start, orders, known, varying, oracle)


def standardised(values: Floats) -> Floats | None:
    """Mean 0 and variance 1; None where all values are the same or one is not finite."""
    if not np.isfinite(values).all():
        return None
    spread = values.std()
    if spread <= _EQUAL * np.abs(values).max():
        return None
    return np.asarray((values - values.mean()) / spread)


def ranked(values: Floats) -> Floats:
    """Mean ranks, scaled to -0.5 .. 0.5.

    >>> ranked(np.array([3.0, 1.0, 2.0])).tolist()
    [0.5, -0.5, 0.0]
    """
    return np.asarray((stats.rankdata(values) - 1) / (len(values) - 1) - 0.5)


def tenths(loss: Floats) -> tuple[Rows, Rows, Rows]:
    """Rows of the best, the middle and the worst tenth, one row each at least.

    >>> [rows.tolist() for rows in tenths(np.array([5.0, 1.0, 3.0]))]
    [[1], [2], [0]]
    """
    sorted_rows = np.argsort(loss, kind="stable")
    size = max(1, round(len(loss) / 10))
    middle = (len(loss) - size) // 2
    return sorted_rows[:size], sorted_rows[middle : middle + size], sorted_rows[-size:]


def by_epoch(groups: Iterable[Group], values: Iterable[float | None]) -> dict[int, float]:
    """Mean of one value a group over the groups of each epoch, those without one left out.

    Rounded, because the last digits would make differences between epochs that have the same.
    """
    found: dict[int, list[float]] = {}
    for group, value in zip(groups, values, strict=True):
        if value is not None:
            found.setdefault(group.epoch, []).append(value)
    return {epoch: round(float(np.mean(listed)), 12) for epoch, listed in sorted(found.items())}


def plain(difference: Difference) -> dict[str, Any]:
    """As JSON has it."""
    listed = {
        name: None if value is None else list(value)
        for name, value in (("ci_t", difference.ci_t), ("ci_bootstrap", difference.ci_bootstrap))
    }
    return {**asdict(difference), **listed}
