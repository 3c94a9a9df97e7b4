"""Colours, filters and noise by words: ``jitter``, ``grey``, ``blur``, ``sobel``, ``noise``."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lessonplan.data.augmentation.change import Change, in_range, numbers, word
from lessonplan.data.augmentation.filters import blur, gaussian, sobel
from lessonplan.data.augmentation.pixelwise import MOST, brightness, contrast, grey, hue, saturation
from lessonplan.errors import ConfigError


@dataclass(frozen=True)
class Jitter(Change):
    """Brightness, contrast, saturation and hue, in this order, each by an amount of its own.

    Args:
        brightness, contrast, saturation: factors are even from 1 - value to 1 + value, 0 at least.
        hue: the hue turns by up to this share of the circle either way, at most 1/2.
    """

    brightness: float
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    @classmethod
    def make(cls, value: str) -> Jitter:
        given = numbers("jitter", value, "jitter:0.4/0.4/0.4/0.1", (0.0,) * 4, least=1)
        for number, most in zip(given, (10, 10, 10, 0.5), strict=True):
            in_range("jitter", number, 0, most)
        return cls(*given)

    def __str__(self) -> str:
        values = [self.brightness, self.contrast, self.saturation, self.hue]
        return word("jitter", values, (-1.0, 0.0, 0.0, 0.0))

    def check(self, shape: tuple[int, ...]) -> None:
        if (self.saturation or self.hue) and shape[0] != 3:
            raise ConfigError(
                f"augment '{self}' changes colours, and these pictures have {shape[0]} channel(s): give brightness"
                " and contrast alone, as in 'jitter:0.4/0.4'"
            )
        if shape[0] not in (1, 3):
            raise ConfigError(f"augment '{self}' needs pictures of 1 or 3 channels; these have {shape[0]}")

    def draws(self, shape: tuple[int, ...]) -> int:
        return 4

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        parts = (
            (brightness, self.brightness, 1.0),
            (contrast, self.contrast, 1.0),
            (saturation, self.saturation, 1.0),
            (hue, self.hue, 0.0),
        )
        for (change, most, middle), drawn in zip(parts, u.unbind(1), strict=True):
            if most:
                least = max(0.0, middle - most) if middle else -most
                x = change(x, least + drawn * (middle + most - least))
        return x


@dataclass(frozen=True)
class Sometimes(Change):
    """A change of each picture with a probability.

    Args:
        probability: in [0, 1].
    """

    probability: float

    name = ""
    usual = 0.5

    @classmethod
    def make(cls, value: str) -> Sometimes:
        [probability] = numbers(cls.name, value, f"{cls.name}:{cls.usual:g}", (cls.usual,))
        return cls(in_range(cls.name, probability, 0, 1))

    def __str__(self) -> str:
        return word(self.name, [self.probability], (self.usual,))

    def draws(self, shape: tuple[int, ...]) -> int:
        return 1

    @abstractmethod
    def changed(self, x: Tensor, u: Tensor) -> Tensor:
        """All pictures changed."""

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        chosen = (u[:, 0] < self.probability)[:, None, None, None]
        return torch.where(chosen, self.changed(x, u), x)


class Grey(Sometimes):
    """The luma in all three channels: colours are dropped. Usually of a fifth (arXiv:2002.05709)."""

    name, usual, channels = "grey", 0.2, (3,)

    def changed(self, x: Tensor, u: Tensor) -> Tensor:
        return grey(x).expand_as(x)


class Blur(Sometimes):
    """A Gaussian blur, its standard deviation even from 0.1 to 2 pixels (arXiv:2002.05709)."""

    name = "blur"

    def draws(self, shape: tuple[int, ...]) -> int:
        return 2

    def changed(self, x: Tensor, u: Tensor) -> Tensor:
        return blur(x, 0.1 + 1.9 * u[:, 1])


class Sobel(Sometimes):
    """The edges in place of the picture."""

    name, usual, channels = "sobel", 0.2, (1, 3)

    def changed(self, x: Tensor, u: Tensor) -> Tensor:
        return sobel(x)


@dataclass(frozen=True)
class Noise(Change):
    """Gaussian noise on every value.

    Args:
        deviation: standard deviation as a share of the range.
    """

    deviation: float

    @classmethod
    def make(cls, value: str) -> Noise:
        [deviation] = numbers("noise", value, "noise:0.1", (0.0,), least=1)
        return cls(in_range("noise", deviation, 0, 1))

    def __str__(self) -> str:
        return word("noise", [self.deviation])

    def draws(self, shape: tuple[int, ...]) -> int:
        return 2 * math.ceil(math.prod(shape) / 2)

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        return (x + gaussian(u, tuple(x.shape[1:])) * (self.deviation * MOST)).clamp_(0, MOST)
