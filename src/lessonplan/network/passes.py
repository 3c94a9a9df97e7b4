"""Passes through the network, counted: what everything beside the update costs."""

from __future__ import annotations

from typing import NamedTuple


class Passes(NamedTuple):
    """Passes through the network beside those of the update itself: of a mix, a selection, a look-ahead.

    ``samples`` are sample passes, with or without a backward pass; ``cost`` counts 1 for a sample's forward
    pass, 1 for the gradient with respect to its input and 1 for the gradient with respect to the weights.
    ``forwarded`` and ``backpropagated`` count the samples of either pass.
    """

    samples: int = 0
    cost: int = 0
    forwarded: int = 0
    backpropagated: int = 0

    def plus(self, other: Passes) -> Passes:
        """The sum of both, part by part."""
        return Passes(
            self.samples + other.samples,
            self.cost + other.cost,
            self.forwarded + other.forwarded,
            self.backpropagated + other.backpropagated,
        )

    @classmethod
    def forward(cls, samples: int) -> Passes:
        """Forward passes of so many samples."""
        return cls(samples, samples, samples, 0)

    @classmethod
    def both(cls, samples: int) -> Passes:
        """Forward and backward passes of so many samples."""
        return cls(samples, 3 * samples, samples, samples)
