"""The schedule of a range test: a learning rate that rises by one factor from update to update."""

from __future__ import annotations

import math

import numpy as np

from lessonplan.train.lr_curve import Floats, newest, smoothing_width
from lessonplan.train.schedule import Schedule

DIVERGED = 4.0
"""Times its best value that the smoothed loss reaches where the test ends."""


class Rising(Schedule):
    """A learning rate with a constant ratio from update to update; it hears the loss of each.

    Args:
        lowest, highest: of the first and the last update.
        steps: 2 or more.

    Attributes:
        base: learning rate of the optimizer, of which a schedule gives multiples.
        losses: of the updates so far; the last one may not be finite.
        ended: why no more are wanted; empty before.
    """

    def __init__(self, lowest: float, highest: float, steps: int) -> None:
        super().__init__("constant")
        self.lowest, self.highest, self.steps = lowest, highest, steps
        self.width = smoothing_width(lowest, highest, steps)
        self.base = 1.0
        self.losses: list[float] = []
        self.ended = ""
        self._best_smoothed = math.inf

    @property
    def listens(self) -> bool:
        """It does."""
        return True

    def rate(self, step: int) -> float:
        """The learning rate of an update, counted from 0."""
        return float(self.lowest * (self.highest / self.lowest) ** (step / (self.steps - 1)))

    def rates(self) -> Floats:
        """Those of the updates that were heard, ``(N,)``."""
        return np.array([self.rate(step) for step in range(len(self.losses))])

    def factor(self, progress: float, epochs: float = 0.0) -> float:
        """That of the next update, whatever the share of the budget."""
        return self.rate(len(self.losses)) / self.base

    def restart(self, progress: float, epochs: float = 0.0) -> None:
        """A cascade's new stage changes nothing."""

    def observe(self, loss: float, images: int = 1) -> None:
        """Hear a loss, and say whether it was the last one."""
        if not math.isfinite(loss):
            self.ended = "not finite"
            return
        self.losses.append(loss)
        smoothed = newest(self.losses, self.width)
        self._best_smoothed = min(self._best_smoothed, smoothed)
        # Of losses below 0, which a function of the user's own may give, multiples say nothing.
        if 0 < DIVERGED * self._best_smoothed < smoothed:
            self.ended = "diverged"
        elif len(self.losses) == self.steps:
            self.ended = "range"
