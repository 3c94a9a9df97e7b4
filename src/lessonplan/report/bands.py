"""The mean of several seeds' curves on one grid of costs (or updates, or seconds), with its t interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from lessonplan.report.reading import Floats

GRID_POINTS = 160  # more than a figure's width can show


@dataclass(frozen=True)
class Band:
    """A mean curve and its interval; ``low`` and ``high`` are None for a single seed.

    All arrays have shape ``(G,)``; ``x`` is cost, or what else the curves are drawn against.
    """

    x: Floats
    mean: Floats
    low: Floats | None
    high: Floats | None
    seeds: int


def mean_band(curves: Sequence[tuple[Floats, Floats]], level: float = 0.95) -> Band | None:
    """Mean and t interval over seeds at each x that every seed has reached.

    Curves are joined linearly between their own points and never continued beyond them, so that no seed
    drops out of the mean halfway. The interval is ``mean ± t(level, n - 1) · s / √n``.

    Args:
        curves: per seed ``(x, value)``, both of shape ``(E,)`` with x never descending; E may differ. Of several
            values at one x (epochs without updates) the last counts.
        level: coverage of the interval, 0 < level < 1.

    Returns:
        The band, or None when no x is common to all curves.

    >>> cost = np.array([1.0, 2.0])
    >>> band = mean_band([(cost, np.array([0.0, 1.0])), (cost, np.array([2.0, 3.0]))])
    >>> band.mean.tolist(), [round(value, 3) for value in (band.high - band.mean).tolist()]
    ([1.0, 2.0], [12.706, 12.706])
    """
    filled = [_last_of_equals(x, value) for x, value in curves if len(x)]
    if not filled:
        return None
    start = max(x[0] for x, _ in filled)
    end = min(x[-1] for x, _ in filled)
    if start > end:
        return None
    known = np.unique(np.concatenate([x for x, _ in filled]))
    known = known[(known >= start) & (known <= end)]
    grid = known if len(known) <= GRID_POINTS else np.linspace(start, end, GRID_POINTS)
    values = np.stack([np.interp(grid, x, value) for x, value in filled])
    mean = values.mean(axis=0)
    n = len(filled)
    if n == 1:
        return Band(grid, mean, None, None, 1)
    half = stdtrit(n - 1, 0.5 + level / 2) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return Band(grid, mean, mean - half, mean + half, n)


def reach(values: Floats, level: float = 0.95) -> Floats:
    """Half the width of the t interval of each column's mean.

    Args:
        values: ``(S, C)``, nan where a seed does not know.
        level: coverage of the interval, 0 < level < 1.

    Returns:
        ``(C,)``, nan where fewer than two seeds know.

    >>> reach(np.array([[1.0, 1.0], [2.0, np.nan], [3.0, np.nan]])).round(3)  # 4.303 / sqrt(3)
    array([2.484,   nan])
    """
    known = ~np.isnan(values)
    seeds = known.sum(0)
    few = seeds < 2
    n = np.where(few, 2, seeds)
    mean = np.where(known, values, 0).sum(0) / n
    variance = np.where(known, (values - mean) ** 2, 0).sum(0) / (n - 1)
    return np.where(few, np.nan, stdtrit(n - 1, 0.5 + level / 2) * np.sqrt(variance / n))


def _last_of_equals(x: Floats, value: Floats) -> tuple[Floats, Floats]:
    last = np.append(x[1:] != x[:-1], True)
    return x[last], value[last]
