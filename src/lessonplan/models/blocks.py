"""Residual blocks: the original one, the pre-activation one, and stages made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.models.common import Norm, conv1x1, conv3x3

Block = Callable[[int, int, int], nn.Module]
"""Makes a block from (in_channels, out_channels, stride)."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with the ReLU behind the sum (He et al. 2016a, fig. 5 left).

    ``(N, in, H, W)`` to ``(N, out, H / stride, W / stride)``; the shortcut is a 1x1 convolution with batch
    norm where the shape changes (the paper's option B) and the identity elsewhere.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class PadShortcut(nn.Module):
    """A shortcut without parameters: every stride-th pixel, new channels zero (He et al. 2016a, option A)."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.extra_channels))


class PreActBlock(nn.Module):
    """Norm, ReLU, convolution, twice, then the sum with nothing behind it (He et al. 2016b, fig. 4e).

    ``(N, in, H, W)`` to ``(N, out, H / stride, W / stride)``. Where the shape changes, the shortcut is a 1x1
    convolution of the activated input (``"conv"``) or subsampling with zero channels (``"pad"``, out >= in).
    Dropout stands between the convolutions (Zagoruyko and Komodakis 2016, section 2.4).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        shortcut: Literal["conv", "pad"] = "conv",
        norm: Norm = nn.BatchNorm2d,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.norm2 = norm(out_channels)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.conv2 = conv3x3(out_channels, out_channels)
        changes = stride != 1 or in_channels != out_channels
        self.projects = changes and shortcut == "conv"
        self.shortcut: nn.Module = nn.Identity()
        if self.projects:
            self.shortcut = conv1x1(in_channels, out_channels, stride)
        elif changes:
            self.shortcut = PadShortcut(out_channels - in_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        skip: Tensor = self.shortcut(active if self.projects else x)
        y = self.dropout(F.relu(self.norm2(self.conv1(active))))
        total: Tensor = skip + self.conv2(y)
        return total


def make_stage(block: Block, in_channels: int, out_channels: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """A chain of blocks of which the first changes channels and size."""
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(blocks - 1)))
