"""Importance sampling by the gradient at the last layer, while it pays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.select import functional as F
from lessonplan.select.base import Needs, Scored, Selector
from lessonplan.select.selectors import draw, random_subset


@dataclass(eq=False)
class GradientNorm(Selector):
    """Draw in proportion to a bound of the gradient's norm, with weights 1 / (N p) (arXiv:1803.00942).

    The bound is the norm of the cross-entropy's gradient at the logits, ``|softmax(z) - onehot(y)|``. How much
    such a draw reduces the variance of the gradient is followed as tau (``variance_gain``). Up to
    ``threshold`` samples are drawn uniformly, and the network is not asked (``needs`` is "nothing"); tau is
    then learnt from what was trained on.

    Args:
        size: see ``Selector``.
        threshold: tau above which it is worth asking; None is ``1 + N / (3 n)`` for n of N candidates, from
            which on time is saved if a backward pass takes twice as long as a forward pass.
        smoothing: weight of the past in tau, in [0, 1).
    """

    name: ClassVar[str] = "gradient-norm"
    STATE: ClassVar[tuple[str, ...]] = ("tau", "_ratio", "_drawn_uniformly")
    size: int | float = 0.2
    threshold: float | None = None
    smoothing: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None and not self.threshold >= 1:
            raise ConfigError(f"{self.name}: threshold {self.threshold}: give at least 1, for tau is never less")
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"{self.name}: smoothing {self.smoothing}: give a number in [0, 1)")
        self.tau = 0.0
        self._ratio = 1.0 / self.size if isinstance(self.size, float) else math.inf
        self._drawn_uniformly = True

    @property
    def on(self) -> bool:
        """Whether the draw follows the gradients at present."""
        return self.tau > (1.0 + self._ratio / 3.0 if self.threshold is None else self.threshold)

    @property
    def needs(self) -> Needs:
        """A forward pass while it pays."""
        return "forward" if self.on else "nothing"

    def score(self, scored: Scored) -> Tensor:
        """The bound ``(N,)``, or ones while samples are drawn uniformly."""
        if not self.on:
            return torch.ones(len(scored), dtype=torch.float32)
        assert scored.logits is not None
        return gradient_bound(scored.logits, scored.targets)

    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Choose; see ``Selector``. With replacement while the draw follows the scores."""
        self._drawn_uniformly = not self.on
        if size:
            self._ratio = len(scores) / size
        if self._drawn_uniformly:
            return random_subset(len(scores), size, generator).to(scores.device), None
        bounds = F.checked_losses(self.name, scores)
        self._follow(bounds)
        positions, weights = draw(F.log_powers(bounds, 1.0), size, generator, replacement=True)
        return positions.to(scores.device), weights.to(scores.device)

    def observe(self, scored: Scored) -> None:
        """Learn tau from a batch that was drawn uniformly."""
        if self._drawn_uniformly and scored.logits is not None:
            bounds = gradient_bound(scored.logits.detach(), scored.targets)
            self._follow(F.checked_losses(self.name, bounds))

    def _follow(self, bounds: Tensor) -> None:
        if len(bounds):
            self.tau = self.smoothing * self.tau + (1.0 - self.smoothing) * variance_gain(bounds)


def gradient_bound(logits: Tensor, targets: Tensor) -> Tensor:
    """Norm of the gradient of each sample's cross-entropy at its logits, ``(N,)`` in [0, sqrt 2].

    >>> gradient_bound(torch.zeros(1, 2), torch.tensor([0]))  # |(-.5, .5)|
    tensor([0.7071])
    """
    F.checked_logits(GradientNorm.name, logits, targets)
    gradient = logits.float().softmax(1)
    gradient[torch.arange(len(targets), device=gradient.device), targets.long()] -= 1.0
    norms: Tensor = gradient.norm(dim=1)
    return norms


def variance_gain(bounds: Tensor) -> float:
    """tau of arXiv:1803.00942, section 3.3: ``(1 - |g - u|^2 / |g|^2)^(-1/2)``.

    g are the probabilities in proportion to the bounds and u the uniform ones, so it is ``sqrt(N sum g^2)``:
    1 where all bounds are equal, at most ``sqrt N``.

    >>> variance_gain(torch.tensor([1.0, 1.0])), variance_gain(torch.tensor([0.0, 0.0, 0.0, 2.0]))
    (1.0, 2.0)
    """
    total = float(bounds.sum())
    if total == 0.0:
        return 1.0
    return math.sqrt(len(bounds) * float((bounds / total).square().sum()))
