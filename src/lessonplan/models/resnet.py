"""ResNet-18 for small images."""

from __future__ import annotations

from torch import Tensor, nn

from lessonplan.models.blocks import BasicBlock, make_stage
from lessonplan.models.common import conv_norm_relu, global_mean, init_convs


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016a) in its CIFAR variant: a 3x3 stem of stride 1 and no pooling behind it.

    Args:
        in_channels: channels of the images.
        num_classes: number of outputs.

    Takes ``(N, in_channels, H, W)``, gives logits ``(N, num_classes)``; 11.17 M parameters.
    """

    stage_names: tuple[str, ...] = ("stage1", "stage2", "stage3", "stage4")

    def __init__(self, *, in_channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_norm_relu(in_channels, 64)
        self.stage1 = make_stage(BasicBlock, 64, 64, 2)
        self.stage2 = make_stage(BasicBlock, 64, 128, 2, stride=2)
        self.stage3 = make_stage(BasicBlock, 128, 256, 2, stride=2)
        self.stage4 = make_stage(BasicBlock, 256, 512, 2, stride=2)
        self.classifier = nn.Linear(512, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        logits: Tensor = self.classifier(global_mean(x))
        return logits
