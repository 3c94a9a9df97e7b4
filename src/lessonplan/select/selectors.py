"""Selectors of ASSIST, and the controls: which of the candidates are trained on, by their losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.select import functional as F
from lessonplan.select.base import Needs, Scored, Selector

Choice = tuple[Tensor, Tensor | None]


@dataclass(eq=False)
class TopK(Selector):
    """The largest losses (ASSIST algorithm 3); of equal ones those that come first.

    Args:
        size: see ``Selector``.

    >>> TopK(2)(torch.tensor([0.1, 3.0, 2.0]), 2, torch.Generator())[0]
    tensor([1, 2])
    """

    name: ClassVar[str] = "topk"
    size: int | float = 0.5

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> Choice:
        """Choose; see ``Selector``. Positions ascend, nothing is drawn."""
        del generator
        values = F.checked_scores(self.name, scores)
        best = values.argsort(descending=True, stable=True)[:size]
        return best.sort().values.to(scores.device), None


@dataclass(eq=False)
class TopQuantile(Selector):
    """All losses from a quantile upwards (ASSIST section 3.2.1), however many that are.

    Args:
        q: the quantile, in (0, 1), between two losses linear.

    >>> TopQuantile(0.5)(torch.tensor([0.1, 3.0, 2.0]), 3, torch.Generator())[0]
    tensor([1, 2])
    """

    name: ClassVar[str] = "quantile"
    q: float = 0.5
    size: int | float = field(default=1.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.q < 1:
            raise ConfigError(f"{self.name}: q {self.q}: give a number in (0, 1)")

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> Choice:
        """Choose; see ``Selector``. The losses alone decide how many; positions ascend."""
        del generator, size
        values = F.checked_scores(self.name, scores)
        if not len(values):
            return torch.zeros(0, dtype=torch.int64, device=scores.device), None
        ordered = values.sort().values
        place = self.q * (len(values) - 1)
        low, high = ordered[int(place)], ordered[min(int(place) + 1, len(values) - 1)]
        # Never above the upper of the two, whatever the rounding: the largest loss always stays.
        edge = torch.minimum(low + (high - low) * (place - int(place)), high)
        return (values >= edge).nonzero().squeeze(1).to(scores.device), None


@dataclass(eq=False)
class LossWeighted(Selector):
    """Draw in proportion to ``loss^power`` (ASSIST section 3.2.1).

    Losses below 1e-8 count as that, so that every sample can be drawn.

    Args:
        size: see ``Selector``.
        power: a number above 0, or ``"2->0.5"`` to change it linearly over the run.
        replacement: draw independently; otherwise no sample is drawn twice.
        inverse: in proportion to ``loss^-power``: easy samples.
        importance: give weights that make the weighted mean of the drawn samples an unbiased estimate of the
            mean over all candidates: ``1 / (N p)`` with replacement, ``n / (N P)`` without, where P is the
            probability of being among the n drawn (given the first one that was not).
    """

    name: ClassVar[str] = "weighted"
    size: int | float = 0.5
    power: float | str = 1.0
    replacement: bool = True
    inverse: bool = False
    importance: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._power = F.read_power(self.name, self.power)

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> Choice:
        """Choose; see ``Selector``."""
        logs = F.log_powers(F.checked_losses(self.name, scores), F.power_at(self._power, self.progress))
        drawn = draw(-logs if self.inverse else logs, size, generator, self.replacement)
        return drawn[0].to(scores.device), drawn[1].to(scores.device) if self.importance else None


@dataclass(eq=False)
class QSplit(Selector):
    """Equally many from q parts of the sorted losses with equal sums of ``loss^power`` (ASSIST algorithm 4).

    The upper parts hold few samples with large losses. A part with too few is topped up from its neighbours.

    Args:
        size: see ``Selector``.
        q: number of parts, at least 2.
        power: a number above 0, or ``"2->0.5"`` to change it linearly over the run.
    """

    name: ClassVar[str] = "qsplit"
    size: int | float = 0.5
    q: int = 2
    power: float | str = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._power = F.read_power(self.name, self.power)
        if self.q < 2:
            raise ConfigError(f"{self.name}: q {self.q}: give at least 2 parts")

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> Choice:
        """Choose; see ``Selector``. Positions ascend."""
        F.checked_losses(self.name, scores)
        if not len(scores):
            return torch.zeros(0, dtype=torch.int64, device=scores.device), None
        buckets = F.equal_mass_buckets(scores.detach().cpu(), self.q, F.power_at(self._power, self.progress))
        shares = F.bucket_shares([len(bucket) for bucket in buckets], size)
        return F.draw_shares(buckets, shares, generator).to(scores.device), None


@dataclass(eq=False)
class RandomSubset(Selector):
    """So many at random, none of them twice: the control that every comparison needs.

    Args:
        size: see ``Selector``.
    """

    name: ClassVar[str] = "random"
    size: int | float = 0.5

    @property
    def needs(self) -> Needs:
        """No opinion of the network: the draw is random."""
        return "nothing"

    def score(self, scored: Scored) -> Tensor:
        """Zeros, for losses play no part."""
        return torch.zeros(len(scored), dtype=torch.float32)

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> Choice:
        """Choose; see ``Selector``. Positions ascend."""
        return random_subset(len(scores), size, generator).to(scores.device), None


@dataclass(eq=False)
class Uniform(RandomSubset):
    """Draw uniformly, each time from all candidates: the control of draws with replacement.

    Args:
        size: see ``Selector``.
        replacement: False draws nothing twice, as ``RandomSubset``.
    """

    name: ClassVar[str] = "uniform"
    replacement: bool = True

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> Choice:
        """Choose; see ``Selector``."""
        if not self.replacement or not len(scores):
            return super().__call__(scores, size, generator)
        return torch.randint(len(scores), (size,), generator=generator).to(scores.device), None


def random_subset(candidates: int, size: int, generator: torch.Generator) -> Tensor:
    """Positions ``(size,)`` int64, ascending, each in [0, ``candidates``), none twice."""
    return torch.randperm(candidates, generator=generator)[:size].sort().values


def draw(log_weights: Tensor, size: int, generator: torch.Generator, replacement: bool) -> tuple[Tensor, Tensor]:
    """Positions drawn in proportion to weights, and factors that make their weighted mean unbiased.

    Args:
        log_weights: ``(N,)`` float64.
        size: how many, n; at most N without replacement.
        generator: on the CPU.
        replacement: whether a sample may be drawn twice.

    Returns:
        positions ``(n,)``, and factors ``(n,)`` float32: ``1 / (N p)``, or ``n / (N P)`` without replacement.
    """
    candidates = len(log_weights)
    if not candidates:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    if replacement:
        positions, p = F.draw_with_replacement(log_weights, size, generator)
        return positions, p.mul_(candidates).reciprocal_().float()
    positions, p = F.draw_without_replacement(log_weights, size, generator)
    return positions, p.mul_(candidates / size).reciprocal_().float()
