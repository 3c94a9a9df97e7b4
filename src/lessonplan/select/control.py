"""The control that a comparison of selections needs: as many samples, taken at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.select.base import Filter, Scored
from lessonplan.select.filters import AccuracyFilter


@dataclass(eq=False)
class MatchedRandom(Filter):
    """Keep as many candidates as ``AccuracyFilter`` would, but any of them.

    It costs what the accuracy filter costs and accepts what it accepts, so that a difference between the two is
    due to which samples are taken, and to nothing else.

    Args:
        margin: of the accuracy filter that is matched, in (0, 1], or None.

    Raises:
        ConfigError: the margin is outside of (0, 1].
    """

    name: ClassVar[str] = "matched-random"
    margin: float | None = None

    def __post_init__(self) -> None:
        self._matched = AccuracyFilter(self.margin)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """What the accuracy filter keeps, from which the number is taken."""
        return self._matched(logits, targets)

    def mask(self, scored: Scored, generator: torch.Generator) -> Tensor:
        """A random permutation of the accuracy filter's choice."""
        kept = self._matched.mask(scored, generator)
        return kept[torch.randperm(len(kept), generator=generator).to(kept.device)]
