"""Published policies: TrivialAugment, RandAugment and AutoAugment, a draw of its own for each picture."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lessonplan.data.augmentation.autoaugment import POLICIES, Step
from lessonplan.data.augmentation.change import Change, in_range, numbers, word
from lessonplan.data.augmentation.operations import OPERATIONS, SIGNED, apply
from lessonplan.data.augmentation.warp import Pad
from lessonplan.errors import ConfigError, unknown

_BINS = 31  # of RandAugment's and TrivialAugment's amounts
_WITHOUT_INVERT = len(OPERATIONS) - 1
Learned = Literal["cifar10", "imagenet", "svhn"]


def amounts(bins: int, size: tuple[int, int], *, wide: bool = False) -> Tensor:
    """How much each level of each operation is: ``(operations, bins)`` float32.

    Args:
        bins: number of levels.
        size: height and width of the pictures, of which translations are a share.
        wide: the wide space of TrivialAugment (arXiv:2103.10158, table 1), in place of that of AutoAugment
            (arXiv:1805.09501, table 6) and RandAugment (arXiv:1909.13719).
    """
    up = torch.linspace(0, 1, bins)
    h, w = size
    most = {
        "shear-x": 0.99 if wide else 0.3,
        "shear-y": 0.99 if wide else 0.3,
        "translate-x": 32.0 if wide else 150 / 331 * w,
        "translate-y": 32.0 if wide else 150 / 331 * h,
        "rotate": 135.0 if wide else 30.0,
        **dict.fromkeys(("brightness", "saturation", "contrast", "sharpness"), 0.99 if wide else 0.9),
    }
    rows = {name: up * much for name, much in most.items()}
    rows["posterize"] = 8 - (up * (6 if wide else 4)).round()
    rows["solarize"] = 255 * (1 - up)
    return torch.stack([rows.get(name, torch.zeros(bins)) for name in OPERATIONS])


@dataclass(frozen=True)
class Policy(Change):
    """What the published policies share: pictures of 1 or 3 channels, and what lies outside moved ones."""

    pad: Pad = "reflect"

    channels = (1, 3)

    @classmethod
    @abstractmethod
    def make(cls, value: str) -> Policy: ...

    def _amount(self, operation: Tensor, level: Tensor, sign: Tensor, table: Tensor) -> Tensor:
        """Of each picture's operation at its level, turned round where ``sign`` is below 1/2."""
        signed = torch.tensor([name in SIGNED for name in OPERATIONS], device=operation.device)
        amount = table.to(operation.device)[operation, level]
        return torch.where(signed[operation] & (sign < 0.5), -amount, amount)


@dataclass(frozen=True)
class Trivial(Policy):
    """TrivialAugment, wide: one operation, its level even (Müller and Hutter, arXiv:2103.10158)."""

    @classmethod
    def make(cls, value: str) -> Trivial:
        if value:
            raise ConfigError(f"augment 'trivial:{value}': trivial has nothing to choose, write 'trivial'")
        return cls()

    def __str__(self) -> str:
        return "trivial"

    def draws(self, shape: tuple[int, ...]) -> int:
        return 3

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        operation, level = _whole(u[:, 0], _WITHOUT_INVERT), _whole(u[:, 1], _BINS)
        table = amounts(_BINS, _size(x), wide=True)
        return apply(x, operation, self._amount(operation, level, u[:, 2], table), self.pad)


@dataclass(frozen=True)
class Rand(Policy):
    """RandAugment: some operations in a row, all at one level (Cubuk et al., arXiv:1909.13719).

    Args:
        count: N, operations for each picture.
        level: M, from 0 to 30.
    """

    count: int = 2
    level: int = 9

    @classmethod
    def make(cls, value: str) -> Rand:
        count, level = numbers("rand", value, "rand:2/9", (2, 9))
        if count % 1 or level % 1:
            raise ConfigError(f"augment 'rand:{value}': give whole numbers, as in 'rand:2/9'")
        in_range("rand", count, 1, 8)
        in_range("rand", level, 0, _BINS - 1)
        return cls(count=int(count), level=int(level))

    def __str__(self) -> str:
        return word("rand", [self.count, self.level], (2, 9))

    def draws(self, shape: tuple[int, ...]) -> int:
        return 2 * self.count

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        table = amounts(_BINS, _size(x))
        for which, sign in _pairs(u):
            operation = _whole(which, _WITHOUT_INVERT)
            level = torch.full_like(operation, self.level)
            x = apply(x, operation, self._amount(operation, level, sign, table), self.pad)
        return x


@dataclass(frozen=True)
class AutoAugment(Policy):
    """AutoAugment: one of 25 learned pairs of operations, each with its probability and level (arXiv:1805.09501).

    Args:
        learned: the data that the pairs were learned on.
    """

    learned: Learned = "imagenet"

    @classmethod
    def make(cls, value: str) -> AutoAugment:
        names = get_args(Learned)
        if value not in names:
            if not value:
                raise ConfigError(f"augment 'auto-augment': say whose policy, {', '.join(names)}")
            raise unknown("policy of auto-augment", value, names)
        return cls(learned=value)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"auto-augment:{self.learned}"

    def draws(self, shape: tuple[int, ...]) -> int:
        return 5

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        pairs = POLICIES[self.learned]
        pair, table = _whole(u[:, 0], len(pairs)), amounts(10, _size(x))
        for place in (0, 1):
            steps: list[Step] = [both[place] for both in pairs]
            operation, level, probability = (
                torch.tensor(column, device=x.device)[pair] for column in zip(*steps, strict=True)
            )
            chance, sign = u[:, 1 + 2 * place], u[:, 2 + 2 * place]
            operation = torch.where(chance < probability, operation, 0)
            x = apply(x, operation, self._amount(operation, level, sign, table), self.pad)
        return x


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _whole(u: Tensor, count: int) -> Tensor:
    """Even numbers in [0, 1) to whole ones below ``count``."""
    return (u * count).long().clamp_(max=count - 1)


def _pairs(u: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Columns two by two."""
    columns = u.unbind(1)
    return list(zip(columns[::2], columns[1::2], strict=True))
