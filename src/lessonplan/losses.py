"""Losses for soft targets."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lessonplan.errors import ConfigError


class _Mixes(Protocol):
    def current_k(self) -> int: ...


class SumBCE(torch.nn.Module):
    """The thesis' loss for sums: binary cross-entropy with logits, summed over classes, divided by K.

    That classes are summed is a reading, the thesis does not say; their mean would be C times smaller.

    Args:
        k: images in a sum, or the mix itself, whose present K is then read at each call.
        reduction: ``"mean"`` over the batch or ``"none"``, one loss a sample.

    Forward takes logits ``(M, C)`` and targets ``(M, C)`` in [0, 1].
    Source: thesis section 3.3.

    >>> SumBCE(k=2)(torch.zeros(1, 3), torch.tensor([[0.5, 0.5, 0.0]])).item()  # 3 ln 2 / 2
    1.0397...
    """

    def __init__(self, k: int | _Mixes = 1, reduction: Literal["mean", "none"] = "mean") -> None:
        super().__init__()
        if isinstance(k, int) and k < 1:
            raise ConfigError(f"SumBCE got k={k}: give a number of images of at least 1, or the mix")
        if reduction not in ("mean", "none"):
            raise ConfigError(f"SumBCE got reduction={reduction!r}: give 'mean' or 'none'")
        self.k = k
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar or ``(M,)``."""
        k = self.k if isinstance(self.k, int) else self.k.current_k()
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1) / k
        return losses.mean() if self.reduction == "mean" else losses
