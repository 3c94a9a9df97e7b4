"""Losses and gradients that leave no trace in the network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lessonplan.batches import Batch, Samples
from lessonplan.learner import Learner, weighted_mean
from lessonplan.snapshot import Snapshot


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore buffers and random state behind the block, and leave dropout out within it.

    Normalisation stays as it is in training, on the statistics of each batch: running statistics are behind
    the weights by many updates, which would count as a loss of every candidate.
    """
    snapshot = Snapshot(model, parameters=False)
    snapshot.take()
    active = [m for m in model.modules() if isinstance(m, _DropoutNd) and m.training and m.p > 0]
    for module in active:
        module.training = False
    try:
        yield
    finally:
        for module in active:
            module.training = True
        snapshot.restore()


def has_dropout(model: nn.Module) -> bool:
    """Whether a loss of the training pass differs from a measured one."""
    return any(isinstance(m, _DropoutNd) and m.training and m.p > 0 for m in model.modules())


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


def gradients(
    learner: Learner,
    x: Tensor,
    y: Tensor,
    parameters: Sequence[nn.Parameter],
    *,
    weights: Tensor | None = None,
    size: int | None = None,
) -> list[Tensor]:
    """The gradient of the mean loss with respect to some parameters; ``p.grad`` is left alone.

    Args:
        x, y: samples and labels.
        parameters: the backward pass goes no deeper than these.
        weights: ``(B,)`` factors of the losses.
        size: largest part that is read at once; None reads all at once.
    """
    assert learner.scaler is not None
    total: list[Tensor] = []
    for a, b in pieces(x, y, size or len(x)):
        loss = weighted_mean(learner.losses(a, b).losses, weights) * (len(a) / len(x))
        found = torch.autograd.grad(learner.scaler.scale(loss), parameters, allow_unused=True)
        part = [g if g is not None else torch.zeros_like(p) for g, p in zip(found, parameters, strict=True)]
        total = part if not total else list(torch._foreach_add(total, part))
    if learner.scaler.is_enabled():
        total = list(torch._foreach_mul(total, 1 / learner.scaler.get_scale()))
    return total
