"""Pre-activation residual networks for small images."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.models.blocks import Block, PreActBlock, make_stage
from lessonplan.models.common import check_dropout, conv3x3, global_mean, init_convs
from lessonplan.models.sizes import blocks_per_stage


class PreActResNet(nn.Module):
    """Pre-activation ResNet (He et al. 2016b, "Identity Mappings in Deep Residual Networks").

    Args:
        depth: 18 gives four stages of widths 64, 128, 256, 512 with 1x1 projections; 6n + 2 (20, 56, 110,
            ...) gives the narrow network of the paper's CIFAR experiments: three stages of n blocks, widths
            16, 32, 64, and shortcuts without any parameters.
        dropout: probability of dropping an activation between the two convolutions of a block, 0 <= p < 1 (as in
            the comparison of arXiv:1710.09412, section 3.4).
        in_channels: channels of the images.
        num_classes: number of outputs.

    Takes ``(N, in_channels, H, W)``, gives logits ``(N, num_classes)``.

    Raises:
        ConfigError: the depth is neither 18 nor 6n + 2, or dropout is no such probability.
    """

    stage_names: tuple[str, ...] = ("stage1", "stage2", "stage3")

    def __init__(
        self, depth: int = 18, *, dropout: float = 0.0, in_channels: int = 3, num_classes: int = 10
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        widths: tuple[int, ...]
        block: Block
        if depth == 18:
            widths, blocks = (64, 128, 256, 512), 2
            block = partial(PreActBlock, dropout=dropout)
            self.stage_names = ("stage1", "stage2", "stage3", "stage4")
        else:
            widths, blocks = (16, 32, 64), blocks_per_stage("preact-resnet", depth, period=6, offset=2)
            block = partial(PreActBlock, shortcut="pad", dropout=dropout)
        self.stem = conv3x3(in_channels, widths[0])
        before = widths[0]
        for name, width in zip(self.stage_names, widths, strict=True):
            self.add_module(name, make_stage(block, before, width, blocks, 1 if name == "stage1" else 2))
            before = width
        self.norm = nn.BatchNorm2d(before)
        self.classifier = nn.Linear(before, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.classifier(global_mean(F.relu(self.norm(x))))
        return logits
