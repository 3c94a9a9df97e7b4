"""Active bias: what the network's opinion of the right class varies for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.select.base import Scored
from lessonplan.select.functional import checked_losses
from lessonplan.select.published.history import Remembering, observed_logits
from lessonplan.select.selectors import draw, random_subset


@dataclass(eq=False)
class ActiveBias(Remembering):
    """Prefer samples whose probability of the right class has varied (arXiv:1704.07433).

    A sample's emphasis is ``sqrt(v + v^2 / (h - 1)) + smoothing``, with v the variance of that probability
    over the h times the network was trained on it.

    Args:
        size: see ``Selector``.
        weights: False draws samples in proportion to the emphasis, none of them twice (SGD-SPV); True draws
            uniformly and multiplies the losses by it, scaled to a mean of 1 (SGD-WPV, with ``size=1.0``).
        smoothing: what keeps samples of little variance in play, above 0; None is the mean over all samples
            of the first summand.
        warmup: share of the run in which all samples count alike, in [0, 1).
    """

    name: ClassVar[str] = "active-bias"
    size: int | float = 0.5
    weights: bool = False
    smoothing: float | None = None
    warmup: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.smoothing is not None and not 0 < self.smoothing < math.inf) or not 0 <= self.warmup < 1:
            raise ConfigError(
                f"{self.name}: smoothing {self.smoothing}, warmup {self.warmup}: give a smoothing above 0 or none,"
                " and a warm-up in [0, 1)"
            )

    def blank(self, samples: int) -> dict[str, Tensor]:
        """How often each was seen, mean and sum of squared deviations of its probability; sum of spreads."""
        return {
            "counts": torch.zeros(samples, dtype=torch.float64),
            "means": torch.zeros(samples, dtype=torch.float64),
            "squares": torch.zeros(samples, dtype=torch.float64),
            "total": torch.zeros(1, dtype=torch.float64),
        }

    def opinion(self, scored: Scored) -> Tensor:
        """The probability of the right class."""
        p = observed_logits(self.name, scored).softmax(1)
        return p.gather(1, scored.targets.cpu().long()[:, None]).squeeze(1)

    def note(self, indices: Tensor, opinion: Tensor) -> None:
        """Enter it (Welford's update)."""
        counts, means = self.table("counts"), self.table("means")
        before = self.spread(indices).sum()
        counts[indices] += 1
        off = opinion - means[indices]
        means[indices] += off / counts[indices]
        self.table("squares")[indices] += off * (opinion - means[indices])
        self.table("total").add_(self.spread(indices).sum() - before)

    def spread(self, indices: Tensor) -> Tensor:
        """``sqrt(v + v^2 / (h - 1))`` of some samples, float64; 0 for those seen once or never."""
        counts = self.table("counts")[indices]
        variance = self.table("squares")[indices] / counts.clamp(min=1.0)
        return (variance + variance.square() / (counts - 1.0).clamp(min=1.0)).sqrt()

    def score(self, scored: Scored) -> Tensor:
        """The emphasis ``(N,)``; ones while warming up and where nothing has varied yet."""
        mean = float(self.table("total")) / len(self.table("counts"))
        extra = mean if self.smoothing is None else self.smoothing
        if self.progress < self.warmup or extra <= 0.0:
            return torch.ones(len(scored), dtype=torch.float32)
        return self.spread(scored.indices.cpu()) + extra

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Choose; see ``Selector``. Positions ascend."""
        emphasis = checked_losses(self.name, scores)
        if not self.weights:
            logs = emphasis.clamp(min=torch.finfo(torch.float64).tiny).log()
            positions, _ = draw(logs, size, generator, replacement=False)
            return positions.to(scores.device), None
        positions = random_subset(len(emphasis), size, generator)
        chosen = emphasis[positions]
        return positions.to(scores.device), (chosen / chosen.mean()).float().to(scores.device)
