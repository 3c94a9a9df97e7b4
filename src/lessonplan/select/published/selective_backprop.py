"""Selective-Backprop: the biggest losers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.select.base import Selector
from lessonplan.select.functional import checked_scores


@dataclass(eq=False)
class SelectiveBackprop(Selector):
    """Keep a sample with probability CDF(loss)^beta (arXiv:1910.00762).

    The distribution is that of the last ``history`` losses, the candidates' own among them. On average
    1 / (beta + 1) of the candidates are kept.

    Args:
        beta: selectivity, above 0.
        history: how many losses to remember.

    >>> part = SelectiveBackprop(beta=2.0)
    >>> generator = torch.Generator().manual_seed(0)
    >>> kept, _ = part(torch.rand(3000, generator=generator), 3000, generator)
    >>> round(len(kept) / 3000, 1)
    0.3
    """

    name: ClassVar[str] = "selective-backprop"
    STATE: ClassVar[tuple[str, ...]] = ("recent",)
    beta: float = 1.0
    history: int = 1024
    size: int | float = field(default=1.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf or self.history < 1:
            raise ConfigError(
                f"{self.name}: beta {self.beta}, history {self.history}: give a beta above 0 and a history of at"
                " least 1 loss"
            )
        self.recent = torch.zeros(0, dtype=torch.float64)

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Choose; see ``Selector``. Chance decides how many, perhaps none; positions ascend."""
        del size
        losses = checked_scores(self.name, scores)
        self.recent = torch.cat([self.recent, losses])[-self.history :]
        share = torch.searchsorted(self.recent.sort().values, losses, right=True) / len(self.recent)
        drawn = torch.rand(len(losses), generator=generator, dtype=torch.float64)
        return (drawn < share.double() ** self.beta).nonzero().squeeze(1).to(scores.device), None
