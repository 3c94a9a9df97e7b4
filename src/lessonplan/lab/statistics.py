"""Paired statistics over seeds: means, intervals, differences, and what may be called better."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes most of a second to import

Verdict = Literal["better", "worse", "undecided"]
Interval = tuple[float, float]

LEVEL = 0.95
_RESAMPLES = 9999
_AT_ONCE = 5_000_000  # values resampled at a time, which bounds the memory
_KEPT = 20_000_000  # values whose resamples are kept for the next method


@dataclass(frozen=True)
class Difference:
    """A method against the reference, seed by seed.

    Attributes:
        mean: mean of method minus reference.
        n: number of seeds that both finished.
        ci_t, ci_bootstrap: intervals of the mean, None for fewer than two seeds.
        p: two-sided p-value of the paired t-test, None for fewer than two seeds.
        p_holm: corrected for the number of methods compared.
        verdict: better or worse only if the t interval excludes 0 and ``p_holm`` is below 1 - level.
    """

    mean: float
    n: int
    ci_t: Interval | None
    ci_bootstrap: Interval | None
    p: float | None
    p_holm: float | None = None
    verdict: Verdict = "undecided"


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Student's interval of a mean; None for fewer than two values.

    >>> [round(v, 3) for v in t_interval([1.0, 2.0, 3.0])]  # 2 -+ 4.303 / sqrt(3)
    [-0.484, 4.484]
    """
    if len(values) < 2:
        return None
    mean = float(np.mean(values))
    reach = float(stdtrit(len(values) - 1, (1 + level) / 2)) * float(_standard_error(values))
    return mean - reach, mean + reach


def _standard_error(values: Sequence[float]) -> np.float64:
    """Of a mean: the standard deviation with one degree of freedom less, over the root of the number."""
    return np.float64(np.std(values, ddof=1) / np.sqrt(len(values)))


def bootstrap_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Percentile bootstrap interval of a mean, always from the same resamples; None for fewer than two."""
    if len(values) < 2:
        return None
    given = np.asarray(values, dtype=float)
    means = np.concatenate([counts @ given for counts in _resamples(len(given))]) / len(given)
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def _resamples(n: int) -> Iterable[np.ndarray[Any, Any]]:
    """How often each of n values is in each resample, (resamples, n), in parts that fit into the memory."""
    return _kept_resamples(n) if n * _RESAMPLES <= _KEPT else _draw_resamples(n)


@lru_cache(maxsize=1)
def _kept_resamples(n: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Methods of a comparison have equally many seeds: they share what was drawn."""
    return tuple(_draw_resamples(n))


def _draw_resamples(n: int) -> Iterator[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    at_once = max(1, _AT_ONCE // n)
    for begin in range(0, _RESAMPLES, at_once):
        rows = min(at_once, _RESAMPLES - begin)
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def paired_p_value(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of the paired t-test; None for fewer than two pairs.

    Differences that are all the same leave the t-test without a scale; then it is the sign test's.
    """
    if len(differences) < 2:
        return None
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else 2.0 * 0.5 ** len(differences)
    with np.errstate(divide="ignore"):  # differences whose squares are too small to hold
        t = np.mean(differences) / _standard_error(differences)
    return float(2 * stdtr(len(differences) - 1, -abs(t)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction for several comparisons (Holm 1979); None stays None.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    given = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(given):
        highest = max(highest, min(1.0, p * (len(given) - rank)))
        corrected[i] = highest
    return corrected


def compare_paired(
    reference: dict[int, float], methods: dict[str, dict[int, float]], level: float = LEVEL
) -> dict[str, Difference | None]:
    """Every method against the reference, over the seeds that both have.

    Args:
        reference: score by seed, higher is better.
        methods: score by seed for each method; the reference itself is not among them.
        level: confidence level in (0, 1).

    Returns:
        a ``Difference`` for each method, None where no seed is shared.
    """
    pairs = {
        name: [score - reference[seed] for seed, score in sorted(scores.items()) if seed in reference]
        for name, scores in methods.items()
    }
    found = {name: _difference(values, level) for name, values in pairs.items() if values}
    return {**dict.fromkeys(methods), **correct_together(found, level)}


def correct_together(differences: dict[str, Difference], level: float = LEVEL) -> dict[str, Difference]:
    """Correct the p-values of several differences for their number (Holm), and decide each of them.

    Args:
        differences: by name; what they say of ``p_holm`` and ``verdict`` is replaced.
        level: confidence level in (0, 1).
    """
    corrected = holm([difference.p for difference in differences.values()])
    return {
        name: replace(difference, p_holm=p, verdict=_decide(difference.ci_t, p, level))
        for (name, difference), p in zip(differences.items(), corrected, strict=True)
    }


def _decide(interval: Interval | None, p_holm: float | None, level: float) -> Verdict:
    if interval is None or p_holm is None or p_holm >= 1 - level:
        return "undecided"
    if interval[0] > 0:
        return "better"
    return "worse" if interval[1] < 0 else "undecided"


def _difference(values: list[float], level: float) -> Difference:
    return Difference(
        mean=float(np.mean(values)),
        n=len(values),
        ci_t=t_interval(values, level),
        ci_bootstrap=bootstrap_interval(values, level),
        p=paired_p_value(values),
    )
