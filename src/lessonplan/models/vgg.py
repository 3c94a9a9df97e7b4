"""VGG networks: the smallest with batch norm for small images, and VGG-GAP, whose maps show where it looks."""

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


class VGGGAP(nn.Module):
    """VGG-16's convolutions, one of 1,024 channels, their global average and a linear layer (VGG-GAP).

    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 3: of VGG-16 (Simonyan and
    Zisserman 2015, configuration D) all behind the last convolution is removed, its pooling too, so that the maps
    are a sixteenth of the image's side. There is no batch norm.

    Args:
        in_channels: channels of the images.
        num_classes: number of outputs.

    Takes ``(N, in_channels, H, W)``, H and W at least 16, gives logits ``(N, num_classes)``; 19.4 M parameters
    below the classifier.
    """

    stage_names: tuple[str, ...] = ("stage1", "stage2", "stage3", "stage4", "stage5")

    def __init__(self, *, in_channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        before = in_channels
        for name, width, convs in zip(self.stage_names, (64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True):
            layers: list[nn.Module] = []
            for _ in range(convs):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            if name != "stage5":
                layers.append(nn.MaxPool2d(2))
            self.add_module(name, nn.Sequential(*layers))
        self.top = nn.Sequential(nn.Conv2d(before, 1024, 3, padding=1), nn.ReLU())
        self.classifier = nn.Linear(1024, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.classifier(global_mean(self.top(x)))
        return logits
