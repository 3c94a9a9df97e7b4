"""A network while it is examined: its mode, its parameters, its predictions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, DataError
from lessonplan.network.accelerator import device_of
from lessonplan.network.network import as_logits
from lessonplan.network.untouched import evaluating

Progress = Callable[[int], object]
"""Hears how many sample passes were just finished (``progress.advance`` of most bars)."""


@torch.no_grad()
def predict_logits(
    model: nn.Module, x: Tensor, *, batch_size: int = 256, progress: Progress | None = None
) -> Tensor:
    """Logits ``(N, C)`` of many inputs ``(N, ...)``, float32 on the CPU; the model's mode is kept.

    >>> predict_logits(nn.Identity(), torch.eye(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if len(x) == 0:
        raise DataError("there is nothing to predict: give at least one input")
    device, parts = device_of(model, x), []
    with evaluating(model):
        for part in x.split(batch_size):
            parts.append(as_logits(model(part.to(device)), len(part)).cpu())
            if progress is not None:
                progress(len(part))
    return torch.cat(parts)


def class_labels(x: Tensor, y: Tensor) -> Tensor:
    """The labels ``(N,)`` as int64: PyTorch takes bytes for a mask, and other integers for no labels.

    Raises:
        DataError: there is not one integer label for each of at least one input.
    """
    if len(x) == 0:
        raise DataError("there are no inputs: give at least one")
    if y.shape != (len(x),) or y.is_floating_point():
        raise DataError(
            f"{len(x)} inputs came with labels of shape {tuple(y.shape)} and type {y.dtype}:"
            f" give integer labels ({len(x)},)"
        )
    return y.long()


def check_logits(logits: Tensor, y: Tensor) -> None:
    """Raise a ``ConfigError`` if a network's output is no logits, a ``DataError`` if labels do not fit it.

    Rows that are nonnegative and sum to 1 are taken for probabilities: a softmax on top of them would hide
    gradients and flatten every loss.
    """
    if logits.ndim != 2 or len(logits) != len(y):
        raise ConfigError(
            f"the model gave shape {tuple(logits.shape)} for {len(y)} inputs: it must give logits (N, C)"
        )
    sums_to_one = (logits.detach().sum(1) - 1).abs().amax() < 1e-4
    if logits.detach().amin() >= 0 and sums_to_one and logits.shape[1] > 1:
        raise ConfigError(
            "the model returns probabilities (every row is nonnegative and sums to 1), and logits are needed:"
            " leave out its softmax"
        )
    check_classes(logits, y)


def check_classes(logits: Tensor, y: Tensor) -> None:
    """Raise a ``DataError`` where labels are none of a network's classes."""
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= logits.shape[1]:
        raise DataError(f"labels go from {low} to {high}, but the model has {logits.shape[1]} outputs")


def own_generator(generator: torch.Generator | None) -> torch.Generator:
    """The generator given, or a new one that starts from seed 0."""
    return torch.Generator().manual_seed(0) if generator is None else generator
