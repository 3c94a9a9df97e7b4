"""LeNet-5."""

from __future__ import annotations

from torch import Tensor, nn

from lessonplan.models.common import init_convs
from lessonplan.models.spec import image_sides


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al. 1998) with ReLU and max pooling.

    Args:
        in_channels: channels of the images.
        num_classes: number of outputs.
        image_size: side in pixels, or (height, width); 16 or more.

    Takes ``(N, in_channels, height, width)``, gives logits ``(N, num_classes)``.

    Raises:
        ConfigError: the images are too small.
    """

    stage_names: tuple[str, ...] = ("stage1", "stage2")

    def __init__(
        self, *, in_channels: int = 3, num_classes: int = 10, image_size: int | tuple[int, int] = 32
    ) -> None:
        super().__init__()
        # each stage: a 5x5 convolution without padding takes 4 pixels, then pooling halves
        height, width = (((side - 4) // 2 - 4) // 2 for side in image_sides("lenet", image_size))
        self.stage1 = nn.Sequential(nn.Conv2d(in_channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2))
        self.stage2 = nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            nn.Flatten(1),
            nn.Linear(16 * height * width, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.stage2(self.stage1(x)))
        return logits
