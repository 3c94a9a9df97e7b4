"""A network as the loop around it uses it: its forward pass, its loss, its scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""``(logits (N, C), target (N, C)) -> loss``, a scalar or one a sample ``(N,)``."""


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
