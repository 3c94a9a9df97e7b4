"""How well cheap scores agree with exact look-ahead."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.parts.state import Stateful


def ranks(values: Tensor) -> Tensor:
    """Ranks ``(N,)`` from 0; equal values share the mean of their places.

    >>> ranks(torch.tensor([3.0, 1.0, 3.0]))
    tensor([1.5000, 0.0000, 1.5000])
    """
    below = (values[:, None] > values).sum(1)
    equal = (values[:, None] == values).sum(1)
    return below + (equal - 1) / 2


def rank_correlation(scores: Tensor, gains: Tensor) -> float:
    """Spearman's correlation of two ``(N,)``; 0 where one of them is constant."""
    a, b = ranks(scores).double(), ranks(gains).double()
    a, b = a - a.mean(), b - b.mean()
    spread = (a.square().sum() * b.square().sum()).sqrt()
    return float((a * b).sum() / spread) if spread > 0 else 0.0


class Fidelity(Stateful):
    """Sums over measurements; shares are of totals, since single ratios are wild among equal candidates."""

    STATE: ClassVar[tuple[str, ...]] = ("count", "ranked", "correlation", "gained", "possible")

    def __init__(self) -> None:
        self.count, self.ranked = 0, 0
        self.correlation, self.gained, self.possible = 0.0, 0.0, 0.0

    def add(self, gains: Tensor, winner: int, scores: Tensor | None = None) -> None:
        """Take in one measurement of K candidates.

        Args:
            gains: ``(K,)`` drops of the loss that exact look-ahead measured.
            winner: the position that was chosen.
            scores: ``(K,)`` by which it was chosen among these; None if it was chosen among others before, and is
                compared with the mean of the rest.
        """
        if len(gains) < 2 or not bool(torch.isfinite(gains).all()):
            return
        mean = gains.mean()
        if scores is not None:
            self.ranked += 1
            self.correlation += rank_correlation(scores, gains)
        else:
            mean = (gains.sum() - gains[winner]) / (len(gains) - 1)
        self.count += 1
        self.gained += float(gains[winner] - mean)
        self.possible += float(gains.max() - mean)

    def add_made(self, gain: float, gains: Tensor) -> None:
        """Take in what a batch made of samples gained, beside K random batches ``(K,)``."""
        if not bool(torch.isfinite(gains).all()) or not math.isfinite(gain):
            return
        mean = gains.mean()
        self.count += 1
        self.gained += gain - float(mean)
        self.possible += float(gains.max() - mean)

    def describe(self) -> dict[str, float | int]:
        """Mean rank correlation, where there was one, and the share of gain.

        The share is what the winners gained over the mean candidate, of what the best would have gained.
        """
        if self.count == 0:
            return {}
        share = self.gained / self.possible if self.possible > 0 else 0.0
        ranked = {"rank_correlation": self.correlation / self.ranked} if self.ranked else {}
        return {"measured": self.count, **ranked, "share_of_gain": share}
