"""InfoBatch: prune what is learnt, and let the rest of it count for more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.select.base import Needs, Scored
from lessonplan.select.functional import checked_scores
from lessonplan.select.published.history import Remembering, observed_losses


@dataclass(eq=False)
class InfoBatch(Remembering):
    """Prune samples below the mean stored loss at random (arXiv:2303.04947).

    Each candidate whose loss, when it was last trained on, lies below the mean of all stored losses is left
    out with probability ``ratio``; those of them that stay count ``1 / (1 - ratio)`` times. What was never
    trained on stays.

    Args:
        ratio: in (0, 1).
        end: share of the run after which nothing is pruned any more, in (0, 1].
    """

    name: ClassVar[str] = "infobatch"
    ratio: float = 0.5
    end: float = 0.875
    size: int | float = field(default=1.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1 or not 0 < self.end <= 1:
            raise ConfigError(
                f"{self.name}: ratio {self.ratio}, end {self.end}: give a ratio in (0, 1) and an end in (0, 1]"
            )

    @property
    def needs(self) -> Needs:
        """What was said before, until the pruning ends."""
        return "history" if self.progress < self.end else "nothing"

    def blank(self, samples: int) -> dict[str, Tensor]:
        """Losses, NaN for samples never trained on; their sum, and how many they are."""
        return {
            "losses": torch.full((samples,), torch.nan, dtype=torch.float32),
            "total": torch.zeros(2, dtype=torch.float64),
        }

    def opinion(self, scored: Scored) -> Tensor:
        """The losses."""
        return observed_losses(self.name, scored).float()

    def note(self, indices: Tensor, opinion: Tensor) -> None:
        """Store them."""
        losses, total = self.table("losses"), self.table("total")
        before = losses[indices]
        total[0] += (opinion.double() - before.double().nan_to_num(0.0)).sum()
        total[1] += before.isnan().sum()
        losses[indices] = opinion

    def score(self, scored: Scored) -> Tensor:
        """By how much the stored loss exceeds the mean of all, ``(N,)``; 0 for samples never trained on."""
        total, seen = self.table("total").tolist()
        losses = self.table("losses")[scored.indices.cpu()].double()
        above: Tensor = losses - total / max(seen, 1.0)
        return above.nan_to_num(0.0)

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Choose; see ``Selector``. Chance decides how many; positions ascend."""
        del size
        if self.progress >= self.end:
            return torch.arange(len(scores), device=scores.device), None
        learnt = checked_scores(self.name, scores) < 0
        drawn = torch.rand(len(learnt), generator=generator, dtype=torch.float64)
        kept = (~learnt | (drawn >= self.ratio)).nonzero().squeeze(1)
        weights = torch.where(learnt[kept], 1.0 / (1.0 - self.ratio), 1.0)
        return kept.to(scores.device), weights.to(scores.device)
