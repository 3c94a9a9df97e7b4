"""A small residual network that a CPU trains in seconds."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.models.blocks import PreActBlock, make_stage
from lessonplan.models.common import conv3x3, global_mean, init_convs
from lessonplan.models.spec import image_sides


class TinyResNet(nn.Module):
    """Three pre-activation blocks of widths 32, 64, 128 (small images: 24, 48, 96), shortcuts without parameters.

    Args:
        in_channels: channels of the images.
        num_classes: number of outputs.
        image_size: side in pixels, or (height, width); 8 or more. From 28 pixels on the stem halves the
            image, which makes the network four times cheaper.

    Takes ``(N, in_channels, H, W)``, gives logits ``(N, num_classes)``; 0.30 M parameters (0.17 M).

    Raises:
        ConfigError: the images are too small.
    """

    stage_names: tuple[str, ...] = ("stage1", "stage2", "stage3")

    def __init__(
        self, *, in_channels: int = 3, num_classes: int = 10, image_size: int | tuple[int, int] = 32
    ) -> None:
        super().__init__()
        large = min(image_sides("tiny", image_size)) >= 28
        block = partial(PreActBlock, shortcut="pad")
        width = 32 if large else 24
        self.stem = conv3x3(in_channels, width, stride=2 if large else 1)
        self.stage1 = make_stage(block, width, width, 1)
        self.stage2 = make_stage(block, width, 2 * width, 1, stride=2)
        self.stage3 = make_stage(block, 2 * width, 4 * width, 1, stride=2)
        self.norm = nn.BatchNorm2d(4 * width)
        self.classifier = nn.Linear(4 * width, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        logits: Tensor = self.classifier(global_mean(F.relu(self.norm(x))))
        return logits
