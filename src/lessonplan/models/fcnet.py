"""FCNet-n: one hidden layer."""

from __future__ import annotations

import math

from torch import Tensor, nn

from lessonplan.models.sizes import at_least_one
from lessonplan.models.spec import image_sides


class FCNet(nn.Module):
    """A fully connected network with one hidden layer of ``hidden`` ReLU units.

    Args:
        hidden: number of hidden units, 1 or more.
        in_channels: channels of the images, or the number of flat features with ``image_size=1``.
        num_classes: number of outputs.
        image_size: side in pixels, or (height, width).

    Takes ``(N, ...)`` with ``in_channels * height * width`` numbers a sample, gives logits
    ``(N, num_classes)``.

    Raises:
        ConfigError: ``hidden`` or ``image_size`` is below 1.

    >>> import torch
    >>> FCNet(5, in_channels=4, num_classes=3, image_size=1)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    stage_names: tuple[str, ...] = ("hidden",)

    def __init__(
        self,
        hidden: int = 100,
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        image_size: int | tuple[int, int] = 32,
    ) -> None:
        super().__init__()
        at_least_one("hidden units of fcnet", hidden)
        inputs = in_channels * math.prod(image_sides("fcnet", image_size))
        self.hidden = nn.Sequential(nn.Flatten(1), nn.Linear(inputs, hidden), nn.ReLU())
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.hidden(x))
        return logits
