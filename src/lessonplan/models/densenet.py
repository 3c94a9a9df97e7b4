"""DenseNet-BC: every layer sees the outputs of all layers before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.models.common import conv1x1, conv3x3, global_mean, init_convs
from lessonplan.models.sizes import at_least_one, blocks_per_stage


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1 to 4k channels, norm, ReLU, 3x3 to k new channels, appended to the input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, 4 * growth)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = conv3x3(4 * growth, growth)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat((x, self.conv2(F.relu(self.norm2(y)))), 1)


def _stage(in_channels: int, growth: int, layers: int) -> nn.Sequential:
    return nn.Sequential(*(DenseLayer(in_channels + i * growth, growth) for i in range(layers)))


def _transition(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), conv1x1(channels, channels // 2), nn.AvgPool2d(2))


class DenseNetBC(nn.Module):
    """DenseNet-BC (Huang et al. 2017) for small images: bottlenecks, and transitions that halve the channels.

    Args:
        depth: L of the paper, 6n + 4 (40, 100, 190, ...); n layers in each of the three dense blocks.
        growth: k of the paper, channels that each layer adds, 1 or more.
        in_channels: channels of the images.
        num_classes: number of outputs.

    Takes ``(N, in_channels, H, W)``, H and W at least 4, gives logits ``(N, num_classes)``. L = 100, k = 12
    has 0.77 M parameters, L = 190, k = 40 has 25.6 M.

    Raises:
        ConfigError: a depth or growth rate that is not allowed.
    """

    stage_names: tuple[str, ...] = ("stage1", "stage2", "stage3")

    def __init__(self, depth: int = 100, growth: int = 12, *, in_channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        layers = blocks_per_stage("densenet-bc", depth, period=6, offset=4)
        channels = 2 * at_least_one("growth rate of densenet-bc", growth)
        self.stem = conv3x3(in_channels, channels)
        self.stage1 = _stage(channels, growth, layers)
        channels += layers * growth
        self.transition1 = _transition(channels)
        channels //= 2
        self.stage2 = _stage(channels, growth, layers)
        channels += layers * growth
        self.transition2 = _transition(channels)
        channels //= 2
        self.stage3 = _stage(channels, growth, layers)
        channels += layers * growth
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transition1(self.stage1(self.stem(x)))
        x = self.transition2(self.stage2(x))
        x = F.relu(self.norm(self.stage3(x)))
        logits: Tensor = self.classifier(global_mean(x))
        return logits
