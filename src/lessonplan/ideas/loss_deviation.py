"""Loss-deviation regulariser: a batch whose losses differ much costs more than their mean."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, require
from lessonplan.network.network import LossFunction, soft_cross_entropy


def loss_deviation(losses: Tensor) -> Tensor:
    """Standard deviation of the losses of a batch, divided by N and not N - 1.

    Args:
        losses: one loss a sample, ``(N,)``, N >= 1.

    Returns:
        A scalar of at least 0. Where all losses agree, as in a batch of one, it is 0 and so is its gradient.

    >>> loss_deviation(torch.tensor([1.0, 3.0]))
    tensor(1.)
    """
    if losses.ndim != 1 or len(losses) == 0:
        raise ConfigError(
            f"the deviation of losses of shape {tuple(losses.shape)}: give one loss a sample, (N,), which"
            " PyTorch's losses do with reduction='none'"
        )
    # A norm has the gradient 0 at 0, where the square root of a variance has NaN.
    deviation: Tensor = torch.linalg.vector_norm(losses - losses.mean()) / math.sqrt(len(losses))
    return deviation


class LossDeviation(nn.Module):
    """Mean of the batch's losses plus ``weight`` times their standard deviation (thesis, future work 1).

    A sample whose loss lies z deviations above the mean counts ``1 + weight * z`` times. A weight of at most
    ``1 / sqrt(N - 1)`` never makes that negative; with a larger one the best fitted samples may be unlearned.

    Args:
        weight: of the deviation, finite and above 0.
        loss: ``(logits (N, C), target) -> (N,)``, one loss a sample; None is cross-entropy, which takes
            labels ``(N,)`` and soft targets ``(N, C)``.

    Forward takes what ``loss`` takes and gives a scalar.

    Raises:
        ConfigError: the weight is out of range, or ``loss`` gives no loss for each sample.

    >>> criterion = LossDeviation(weight=0.5, loss=lambda output, target: (output - target).abs())
    >>> criterion(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0]))  # 2 + 0.5 * 1
    tensor(2.5000)
    """

    def __init__(self, weight: float = 0.1, loss: LossFunction | None = None) -> None:
        super().__init__()
        require(0 < weight < math.inf, f"weight={weight} of the loss deviation: give a finite number above 0")
        self.weight = weight
        self.loss = loss or soft_cross_entropy

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The regularised loss of a batch, a scalar."""
        losses = self.loss(logits, target)
        return losses.mean() + self.weight * loss_deviation(losses)
