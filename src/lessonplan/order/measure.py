"""Losses that leave no trace in the network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lessonplan.batch import Batch, Samples
from lessonplan.network.learner import Learner, weighted_mean
from lessonplan.network.untouched import untouched


def pieces(x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Nearly equal parts of at most ``size`` samples."""
    count = math.ceil(len(x) / size)
    return zip(x.tensor_split(count), y.tensor_split(count), strict=True)


@torch.no_grad()
def measured_loss(learner: Learner, x: Tensor, y: Tensor, *, size: int, weights: Tensor | None = None) -> Tensor:
    """The mean loss ``()`` of samples, read in parts of at most ``size``; call it within ``untouched``.

    Parts of the size of a training batch are normalised as training is, and stay in a CPU's cache.
    """
    if weights is not None:
        return weighted_mean(learner.losses(x, y).losses, weights)
    losses = [learner.losses(a, b).losses.mean() * len(a) for a, b in pieces(x, y, size)]
    return torch.stack(losses).sum() / len(x)


@torch.no_grad()
def sample_losses(learner: Learner, batch: Batch, data: Samples) -> Tensor:
    """The losses ``(B,)`` of a batch, or one for all of them where the loss function gives no more."""
    with untouched(learner.model):
        return learner.losses(*batch.read(data)).losses.float()
