"""Filters: which samples the network has not learnt yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.select.base import Filter
from lessonplan.select.functional import checked_logits, shrinking_margin, top_gap


@dataclass(eq=False)
class AccuracyFilter(Filter):
    """Keep what the network gets wrong (ASSIST algorithms 5 to 7).

    Args:
        margin: also keep correct samples whose two highest probabilities differ by at most this, in (0, 1]
            (the soft filter); None keeps the wrong ones alone (the hard filter).

    Raises:
        ConfigError: the margin is outside of (0, 1].

    >>> import torch
    >>> logits = torch.tensor([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8]]).log()
    >>> targets = torch.tensor([0, 0, 0])
    >>> AccuracyFilter()(logits, targets), AccuracyFilter(0.2)(logits, targets)
    (tensor([False, False,  True]), tensor([False,  True,  True]))
    """

    name: ClassVar[str] = "accuracy"
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.margin is not None:
            _check_margin(self.name, self.margin)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Which samples stay; see ``Filter``.

        Raises:
            DataError: shapes do not fit, or a logit is not finite.
        """
        checked_logits(self.name, logits, targets)
        wrong = logits.argmax(1) != targets
        return wrong if self.margin is None else wrong | (top_gap(logits) <= self.margin)


@dataclass(eq=False)
class MarginFilter(Filter):
    """Keep samples whose highest probability exceeds the one at a rank by less than a margin.

    Labels play no part: this is about certainty, right or wrong.

    Args:
        rank: the probability to compare with: 2 is the second highest, at most the number of classes.
        margin: in (0, 1].
        decay: None for a constant margin; a number above 0 lets it shrink over the run as
            ``1 - (e / E)^decay (1 - margin)``, from 1 to ``margin``.

    Raises:
        ConfigError: one of them is out of range.
    """

    name: ClassVar[str] = "margin"
    rank: int = 2
    margin: float = 0.2
    decay: float | None = None

    def __post_init__(self) -> None:
        _check_margin(self.name, self.margin)
        if self.rank < 2:
            raise ConfigError(f"{self.name}: rank {self.rank}: give 2 for the second highest probability, or more")
        if self.decay is not None and not 0 < self.decay < math.inf:
            raise ConfigError(f"{self.name}: decay {self.decay}: give a finite number above 0, or none")

    def make_room(self, samples: int, num_classes: int) -> None:
        """See that there are as many classes as the rank asks for."""
        super().make_room(samples, num_classes)
        self._check_rank(num_classes)

    def current_margin(self) -> float:
        """The margin at this point of the run."""
        return self.margin if self.decay is None else shrinking_margin(self.progress, self.margin, self.decay)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Which samples stay; see ``Filter``.

        Raises:
            DataError: shapes do not fit, or a logit is not finite.
            ConfigError: there are fewer classes than the rank asks for.
        """
        checked_logits(self.name, logits, targets)
        self._check_rank(logits.shape[1])
        return top_gap(logits, self.rank) < self.current_margin()

    def _check_rank(self, num_classes: int) -> None:
        if self.rank > num_classes:
            raise ConfigError(f"{self.name}: rank {self.rank} of {num_classes} classes: give 2 to {num_classes}")


def _check_margin(name: str, margin: float) -> None:
    if not 0 < margin <= 1:
        raise ConfigError(f"{name}: margin {margin} between probabilities: give a number in (0, 1]")
