"""The networks of a search: a small convolutional one, or any without batch norm by name."""

from __future__ import annotations

from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.models import build_model
from lessonplan.network.untouched import seeded

SMALL = "small-conv"
_LARGE = 16  # pixels from which on the convolutions take larger strides


class SmallConv(nn.Sequential):
    """Two strided convolutions with ReLU and a linear layer; 2,826 parameters for 28 x 28 grey pixels, 10 classes.

    The thesis trains "a small convolutional network" and says no more; this one is cheap enough to be evaluated
    a hundred thousand times.

    Args:
        shape: ``(C, H, W)``, 8 x 8 pixels or more. From 16 pixels on the convolutions are 5 x 5 with stride 3 and
            3 x 3 with stride 2, below 3 x 3 with strides 2 and 1.
        outputs: number of outputs.

    Takes ``(N, C, H, W)``, gives logits ``(N, outputs)``.

    Raises:
        ConfigError: samples that are no images of that size.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int) -> None:
        if len(shape) != 3 or min(shape[1:]) < 8:
            raise ConfigError(
                f"{SMALL} takes images (channels, height, width) of at least 8 x 8 pixels, got {shape}:"
                " give model='fcnet-N' for features"
            )
        channels, height, width = shape
        large = min(height, width) >= _LARGE
        first, second = (3, 2) if large else (2, 1)
        kernel, padding = (5, 0) if large else (3, 1)
        sides = [((side + 2 * padding - kernel) // first + 1 - 3) // second + 1 for side in (height, width)]
        super().__init__(
            nn.Conv2d(channels, 8, kernel, stride=first, padding=padding),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=second),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * sides[0] * sides[1], outputs),
        )


def search_network(name: str, shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """A network with weights of a seed.

    Args:
        name: ``"small-conv"`` or what ``lessonplan.models.build_model`` knows.
        shape: of a sample.
        outputs: number of outputs.
        seed: of the weights.

    Raises:
        ConfigError: unknown name, or samples it cannot take.

    >>> sum(p.numel() for p in search_network("small-conv", (1, 28, 28), 10, seed=0).parameters())
    2826
    """
    if name == SMALL:
        with seeded(seed):
            return SmallConv(shape, outputs)
    return build_model(name, shape=shape, num_classes=outputs, seed=seed)
