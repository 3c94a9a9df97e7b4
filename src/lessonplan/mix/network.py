"""What a mix may know of the network that its samples are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""``(logits (N, C), target (N, C)) -> loss``, a scalar or one a sample ``(N,)``."""


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
        return Passes(*(mine + others for mine, others in zip(self, other, strict=True)))

    @classmethod
    def forward(cls, samples: int) -> Passes:
        """Forward passes of so many samples."""
        return cls(samples, samples, samples, 0)

    @classmethod
    def both(cls, samples: int) -> Passes:
        """Forward and backward passes of so many samples."""
        return cls(samples, 3 * samples, samples, samples)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each sample against a soft target, ``(N,)``."""
    return F.cross_entropy(logits, target, reduction="none")


def unscaled(loss: Tensor) -> Tensor:
    """The loss as it is, where no gradient scaler is used."""
    return loss


@dataclass(frozen=True)
class Network:
    """A network, and how the loop around it uses it.

    Args:
        module: the network itself, in whose submodules hidden states can be mixed.
        loss: what the loop minimises.
        run: the forward pass as the loop makes it (compiled, under autocast, channels-last); None calls
            ``module``.
        scale: what the loop does to a loss before its backward pass (a gradient scaler).
    """

    module: nn.Module
    loss: LossFunction = soft_cross_entropy
    run: Callable[[Tensor], Tensor] | None = None
    scale: Callable[[Tensor], Tensor] = unscaled

    def logits(self, x: Tensor) -> Tensor:
        """The forward pass: ``(N, ...)`` to float32 logits ``(N, C)``."""
        return (self.run or self.module)(x).float()
