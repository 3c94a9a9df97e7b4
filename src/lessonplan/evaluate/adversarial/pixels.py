"""Images in [0, 1]: the normalisation inside the model, and the checks of images and budgets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, DataError


class PixelModel(nn.Module):
    """A network with its normalisation in front, so that it takes images in [0, 1].

    Args:
        model: takes ``(x - mean) / std``, gives logits.
        mean: one number a channel, in units of [0, 1] pixels.
        std: the same, all above 0.

    Forward takes images ``(N, C, H, W)`` in [0, 1].

    Raises:
        ConfigError: a deviation that is not above 0, or lengths that differ.

    >>> PixelModel(nn.Flatten(), mean=[0.5], std=[0.25])(torch.ones(1, 1, 1, 2))
    tensor([[2., 2.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> None:
        super().__init__()
        centre, spread = (torch.as_tensor(v, dtype=torch.float32).reshape(-1) for v in (mean, std))
        if len(centre) != len(spread) or not bool((spread > 0).all()):
            raise ConfigError(
                f"mean has {len(centre)} and std {len(spread)} channels, std from {float(spread.min()):g}:"
                " give as many of one as of the other, and deviations above 0"
            )
        self.model = model
        self.register_buffer("mean", centre.view(-1, 1, 1), persistent=False)
        self.register_buffer("std", spread.view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model((x - self.mean.to(x.dtype)) / self.std.to(x.dtype))
        return logits


def check_eps(eps: float) -> None:
    """Raise a ``ConfigError`` unless ``eps`` is a budget in units of [0, 1] pixels.

    >>> check_eps(8)
    Traceback (most recent call last):
    lessonplan.errors.ConfigError: eps=8 on images in [0, 1] would allow any image: did you mean 8/255 = 0.0314?
    """
    if eps > 1.0:
        raise ConfigError(
            f"eps={eps:g} on images in [0, 1] would allow any image: did you mean {eps:g}/255 = {eps / 255:.4f}?"
        )
    if not eps >= 0.0:
        raise ConfigError(f"eps={eps}: give the largest change of a pixel, in [0, 1]")


def check_pixels(x: Tensor) -> None:
    """Raise a ``DataError`` unless all values of a batch of images are in [0, 1]."""
    if not x.is_floating_point():
        raise DataError(f"an attack got images of type {x.dtype}: divide them by 255 to get floats in [0, 1]")
    low, high = (float(v) for v in torch.aminmax(x))
    if not (low >= 0.0 and high <= 1.0):
        raise DataError(
            f"an attack got images with values from {low:.4g} to {high:.4g}, not in [0, 1]: give images as they"
            " are before normalisation, and put the normalisation inside the model (PixelModel)"
        )
