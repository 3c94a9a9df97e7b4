"""Losses for soft targets."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lessonplan.errors import ConfigError


class _Mixes(Protocol):
    def mixed_k(self) -> int: ...


class SumBCE(torch.nn.Module):
    """The thesis' loss for sums: binary cross-entropy with logits, summed over classes, divided by K.

    That classes are summed is a reading, the thesis does not say; their mean would be C times smaller.

    Args:
        k: images in a sum, or the mix itself, whose K of the batch mixed last is then read at each call: 1 of one
            that was left as it was.
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
        k = self.k if isinstance(self.k, int) else self.k.mixed_k()
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1) / k
        return losses.mean() if self.reduction == "mean" else losses


class FocalLoss(torch.nn.Module):
    """Cross-entropy in which samples count less the surer the network is of their label.

    A label c costs ``-(1 - p_c)^gamma log p_c``, where p are softmax probabilities (T.-Y. Lin and others, "Focal
    Loss for Dense Object Detection", ICCV 2017, equation 4; for two classes this is the paper's, of a sigmoid).
    Its equation 5 multiplies by a constant of the class, which is left out.

    A soft target t costs ``sum_c t_c (-(1 - p_c)^gamma log p_c)``, the mean over the labels that it may be. The
    paper has labels only; this is the extension that stays linear in the target, as cross-entropy is. Its lowest
    value does in general not lie at p = t.

    Args:
        gamma: 0 or more; 0 is cross-entropy. The paper uses 2.
        reduction: ``"mean"`` over the batch or ``"none"``, one loss a sample.

    Forward takes logits ``(M, C)`` and targets ``(M, C)`` in [0, 1], or labels ``(M,)``.

    >>> FocalLoss(gamma=2)(torch.zeros(1, 2), torch.tensor([1])).item()  # ln 2 / 4
    0.1732...
    """

    def __init__(self, gamma: float = 2.0, reduction: Literal["mean", "none"] = "mean") -> None:
        super().__init__()
        if not 0 <= gamma < math.inf:
            raise ConfigError(f"FocalLoss got gamma={gamma}: give a finite number of at least 0")
        if reduction not in ("mean", "none"):
            raise ConfigError(f"FocalLoss got reduction={reduction!r}: give 'mean' or 'none'")
        self.gamma = gamma
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar or ``(M,)``."""
        log_p = logits.log_softmax(1)
        # Where p is 1 in floating point a power below 1 has no finite slope, and the loss is 0: held above 0.
        rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
        each = -rest.pow(self.gamma) * log_p
        if target.is_floating_point():
            losses = (target * each).sum(1)
        else:
            losses = each.gather(1, target.long().unsqueeze(1)).squeeze(1)
        return losses.mean() if self.reduction == "mean" else losses
