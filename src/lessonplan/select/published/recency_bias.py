"""Recency bias: what the network is of two minds about lately."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.select.base import Scored
from lessonplan.select.functional import checked_scores, draw_without_replacement
from lessonplan.select.published.history import Remembering, observed_logits
from lessonplan.select.selectors import random_subset


@dataclass(eq=False)
class RecencyBias(Remembering):
    """Draw by the entropy of the last predicted labels (H. Song and others, CIKM 2020; arXiv:1911.08050).

    The uncertainty U in [0, 1] is the entropy of the labels in the window over the logarithm of the number of
    classes. With the index ``Q = ceil((1 - U) M)`` for M training samples, a sample is drawn in proportion to
    ``exp(-Q log(s) / M)``, nothing twice. The pressure s, by how much the most uncertain sample is preferred to
    the most certain one, falls exponentially to 1. What was never trained on counts as uncertain.

    Args:
        size: see ``Selector``.
        window: how many predictions of a sample count, at least 2.
        pressure: s at the end of the warm-up, at least 1.
        warmup: share of the run in which samples are drawn uniformly, in [0, 1).
    """

    name: ClassVar[str] = "recency-bias"
    size: int | float = 0.5
    window: int = 10
    pressure: float = 100.0
    warmup: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 2 or not 1 <= self.pressure < math.inf or not 0 <= self.warmup < 1:
            raise ConfigError(
                f"{self.name}: window {self.window}, pressure {self.pressure}, warmup {self.warmup}: give a window"
                " of at least 2, a pressure of at least 1 and a warm-up in [0, 1)"
            )
        self._num_classes = 2

    def make_room(self, samples: int, num_classes: int) -> None:
        """Make the tables."""
        super().make_room(samples, num_classes)
        self._num_classes = num_classes

    def blank(self, samples: int) -> dict[str, Tensor]:
        """The last predictions, -1 for none, and how many there were."""
        return {
            "predictions": torch.full((samples, self.window), -1, dtype=torch.int32),
            "counts": torch.zeros(samples, dtype=torch.int64),
        }

    def opinion(self, scored: Scored) -> Tensor:
        """The predicted labels."""
        return observed_logits(self.name, scored).argmax(1).int()

    def note(self, indices: Tensor, opinion: Tensor) -> None:
        """Enter them in place of the oldest."""
        counts = self.table("counts")
        self.table("predictions")[indices, counts[indices] % self.window] = opinion
        counts[indices] += 1

    def current_pressure(self) -> float:
        """s at this point of the run."""
        gone = (self.progress - self.warmup) / (1.0 - self.warmup)
        return float(self.pressure ** (1.0 - min(max(gone, 0.0), 1.0)))

    def score(self, scored: Scored) -> Tensor:
        """The uncertainty ``(N,)`` in [0, 1]."""
        recent = self.table("predictions")[scored.indices.cpu()]
        uncertain = label_entropy(recent) / math.log(max(self._num_classes, 2))
        return uncertain.nan_to_num(1.0).clamp(max=1.0)

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Choose; see ``Selector``. Positions ascend."""
        uncertain = checked_scores(self.name, scores)
        if self.progress < self.warmup:
            return random_subset(len(uncertain), size, generator).to(scores.device), None
        samples = len(self.table("counts"))
        index = ((1.0 - uncertain) * samples).ceil()
        log_weights = -index * math.log(self.current_pressure()) / samples
        return draw_without_replacement(log_weights, size, generator)[0].to(scores.device), None


def label_entropy(labels: Tensor) -> Tensor:
    """Entropy in nats of the labels in each row, ``(N,)`` float64.

    Args:
        labels: ``(N, W)``, -1 for none; a row without labels has an entropy of NaN.

    >>> label_entropy(torch.tensor([[1, 1, -1], [0, 1, 2]]))
    tensor([0.0000, 1.0986], dtype=torch.float64)
    """
    known = labels >= 0
    counts = known.sum(1).double()
    total = torch.zeros(len(labels), dtype=torch.float64)
    for column, here in zip(labels.T, known.T, strict=True):
        same = (labels == column[:, None]).sum(1).double()
        total -= torch.where(here, (same / counts).log(), 0.0)
    return total / counts
