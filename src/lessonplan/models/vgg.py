"""VGG-11 with batch norm for small images."""

from __future__ import annotations

from torch import Tensor, nn

from lessonplan.models.common import conv_norm_relu, global_mean, init_convs


def _stage(in_channels: int, out_channels: int, convs: int) -> nn.Sequential:
    first = conv_norm_relu(in_channels, out_channels)
    rest = (conv_norm_relu(out_channels, out_channels) for _ in range(convs - 1))
    # rounding up keeps 28 x 28 images alive through five halvings; 32 x 32 does not notice
    return nn.Sequential(first, *rest, nn.MaxPool2d(2, ceil_mode=True))


class VGG11(nn.Module):
    """VGG-11 (Simonyan and Zisserman 2015, configuration A) with batch norm and one linear layer on top.

    Args:
        in_channels: channels of the images.
        num_classes: number of outputs.

    Takes ``(N, in_channels, H, W)``, H and W at least 17, gives logits ``(N, num_classes)``; 9.2 M
    parameters.
    """

    stage_names: tuple[str, ...] = ("stage1", "stage2", "stage3", "stage4", "stage5")

    def __init__(self, *, in_channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        self.stage1 = _stage(in_channels, 64, 1)
        self.stage2 = _stage(64, 128, 1)
        self.stage3 = _stage(128, 256, 2)
        self.stage4 = _stage(256, 512, 2)
        self.stage5 = _stage(512, 512, 2)
        self.classifier = nn.Linear(512, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage5(self.stage4(self.stage3(self.stage2(self.stage1(x)))))
        logits: Tensor = self.classifier(global_mean(x))
        return logits
