"""Deep layer aggregation: trees of residual blocks whose outputs meet in root nodes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lessonplan.models.blocks import BasicBlock
from lessonplan.models.common import conv1x1, conv_norm_relu, global_mean, init_convs


class Root(nn.Module):
    """Concatenate maps and merge them: 1x1 convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.merge = nn.Sequential(conv1x1(in_channels, out_channels), nn.BatchNorm2d(out_channels), nn.ReLU())

    def forward(self, *maps: Tensor) -> Tensor:
        merged: Tensor = self.merge(torch.cat(maps, 1))
        return merged


class SimpleTree(nn.Module):
    """A binary tree of depth ``levels``: two subtrees (blocks at the bottom) in a row, merged by one root."""

    def __init__(self, in_channels: int, out_channels: int, levels: int, stride: int = 1) -> None:
        super().__init__()
        self.left: nn.Module
        self.right: nn.Module
        if levels == 1:
            self.left = BasicBlock(in_channels, out_channels, stride)
            self.right = BasicBlock(out_channels, out_channels)
        else:
            self.left = SimpleTree(in_channels, out_channels, levels - 1, stride)
            self.right = SimpleTree(out_channels, out_channels, levels - 1)
        self.root = Root(2 * out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        merged: Tensor = self.root(left, self.right(left))
        return merged


class Tree(nn.Module):
    """Hierarchical aggregation with re-entrant nodes (Yu et al. 2018, fig. 2f and eq. 2).

    Subtrees of ``levels - 1``, ..., 1 levels and then two blocks follow one another, each fed by the one
    before. The root merges all of their outputs and, above the lowest level, one block's view of the input.
    """

    def __init__(self, in_channels: int, out_channels: int, levels: int, stride: int = 1) -> None:
        super().__init__()
        self.direct = BasicBlock(in_channels, out_channels, stride) if levels > 1 else None
        self.chain = nn.ModuleList()
        before = in_channels
        for below in range(levels - 1, 0, -1):
            self.chain.append(Tree(before, out_channels, below, stride))
            before, stride = out_channels, 1
        self.chain.append(BasicBlock(before, out_channels, stride))
        self.chain.append(BasicBlock(out_channels, out_channels))
        joined = len(self.chain) + (self.direct is not None)
        self.root = Root(joined * out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = [] if self.direct is None else [self.direct(x)]
        for part in self.chain:
            x = part(x)
            maps.append(x)
        merged: Tensor = self.root(*maps)
        return merged


class DLA(nn.Module):
    """DLA-34-like network for small images (Yu et al. 2018, "Deep Layer Aggregation").

    Args:
        in_channels: channels of the images.
        num_classes: number of outputs.

    Takes ``(N, in_channels, H, W)``, gives logits ``(N, num_classes)``; 16.3 M parameters.
    """

    stage_names: tuple[str, ...] = ("stage1", "stage2", "stage3", "stage4")
    _tree: Callable[[int, int, int, int], nn.Module] = Tree

    def __init__(self, *, in_channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        tree = type(self)._tree
        self.stem = nn.Sequential(conv_norm_relu(in_channels, 16), conv_norm_relu(16, 16), conv_norm_relu(16, 32))
        self.stage1 = tree(32, 64, 1, 1)
        self.stage2 = tree(64, 128, 2, 2)
        self.stage3 = tree(128, 256, 2, 2)
        self.stage4 = tree(256, 512, 1, 2)
        self.classifier = nn.Linear(512, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        logits: Tensor = self.classifier(global_mean(x))
        return logits


class SimpleDLA(DLA):
    """`DLA` with plain binary trees: no input reaches a root around its subtrees; 15.1 M parameters."""

    _tree = SimpleTree
