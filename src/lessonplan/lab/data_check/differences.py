"""How far two parts of a set are apart in light and size, as effect sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from torch import Tensor

_SURE = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Effect:
    """A difference of two means in standard deviations.

    Attributes:
        d: Cohen's d, above 0 where the second part has more; infinite where each part has a value of its own.
        low, high: its 95% interval.
    """

    d: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """How large it is by Cohen's (1988) words; "none" below .2, or where chance could have done it."""
        if self.low <= 0 <= self.high or abs(self.d) < 0.2:
            return "none"
        return "small" if abs(self.d) < 0.5 else "medium" if abs(self.d) < 0.8 else "large"


def effect(first: Tensor, second: Tensor) -> Effect | None:
    """Cohen's d of two samples with the interval of Hedges and Olkin (1985, page 86); None below two values each.

    Args:
        first, second: ``(n,)`` and ``(m,)``.

    >>> import torch
    >>> round(effect(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 4.0, 5.0])).d, 3)
    2.0
    """
    n, m = len(first), len(second)
    if min(n, m) < 2:
        return None
    first, second = first.double(), second.double()
    difference = float(second.mean() - first.mean())
    within = float(first.var() * (n - 1) + second.var() * (m - 1))
    spread = math.sqrt(within / (n + m - 2))
    if spread <= 1e-9 * max(1.0, abs(float(first.mean()))):
        d = math.copysign(math.inf, difference) if abs(difference) > 1e-9 else 0.0
        return Effect(d, d, d)
    d = difference / spread
    error = math.sqrt((n + m) / (n * m) + d * d / (2 * (n + m)))
    return Effect(d, d - _SURE * error, d + _SURE * error)
