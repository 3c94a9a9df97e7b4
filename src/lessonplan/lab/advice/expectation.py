"""What plans are worth, as far as what was found of them can be trusted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def expected(mean: Array, error: Array) -> Array:
    """What plans are worth, as far as their means can be trusted: drawn to their centre by what chance explains.

    The empirical Bayes estimate with the variance between plans of R. DerSimonian and N. Laird (Meta-analysis in
    clinical trials, 1986): a gain that rests on few rounds counts for less than the same after many.

    Args:
        mean: ``(..., m)`` gains.
        error: ``(..., m)`` their standard errors, above 0.

    Returns:
        ``(..., m)``: the mean of all where chance explains what they differ by.

    >>> expected(np.array([0.10, 0.05, 0.0]), np.array([0.10, 0.01, 0.01])).round(3)
    array([0.033, 0.048, 0.002])
    """
    weight = error**-2.0
    total = weight.sum(-1, keepdims=True)
    centre = (weight * mean).sum(-1, keepdims=True) / total
    heterogeneity = (weight * (mean - centre) ** 2).sum(-1, keepdims=True)
    free = mean.shape[-1] - 1
    scale = total - (weight**2).sum(-1, keepdims=True) / total
    between = np.maximum(heterogeneity - free, 0.0) / scale if free else np.zeros_like(total)
    found: Array = centre + (mean - centre) * between / (between + error**2)
    return found
