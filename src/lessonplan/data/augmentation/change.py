"""What every change of a picture has: a word, random numbers that it asks for, and a function of a batch."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lessonplan.errors import ConfigError

_NUMBER = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?|\.[0-9]{1,6}")


class Change(ABC):
    """One word of an augmentation, applied to batches of pictures.

    ``str`` of a change is the word that makes it again.
    """

    channels: ClassVar[tuple[int, ...] | None] = None
    """How many channels its pictures may have; None is any number."""

    @abstractmethod
    def draws(self, shape: tuple[int, ...]) -> int:
        """How many uniform numbers a picture ``(C, H, W)`` takes."""

    @abstractmethod
    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """Change a batch.

        Args:
            x: ``(B, C, H, W)`` float32 in [0, 255]; it is not written to.
            u: ``(B, draws)`` float32 in [0, 1), a row of its own for each picture.

        Returns:
            The same shape, in [0, 255], whole numbers or not.
        """

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ConfigError where pictures of this shape cannot be changed so."""
        if self.channels is not None and shape[0] not in self.channels:
            allowed = " or ".join(map(str, self.channels))
            raise ConfigError(f"augment '{self}' needs pictures of {allowed} channels; these have {shape[0]}")


def in_range(name: str, value: float, low: float, high: float) -> float:
    """The value, if it may be.

    Raises:
        ConfigError: it is outside, with the range in the message.
    """
    if not low <= value <= high:
        raise ConfigError(f"augment {name}:{value:g}: give a number from {low:g} to {high:g}")
    return value


def numbers(name: str, text: str, example: str, defaults: Sequence[float], least: int = 0) -> list[float]:
    """The numbers behind a word, separated by ``/``; what is not given is as by default.

    Args:
        name: the word, for messages.
        text: what follows its colon; empty where nothing does.
        example: the word as one may write it, for messages.
        defaults: the numbers in their order.
        least: how many must be given.

    Raises:
        ConfigError: what is no number, too many or too few of them.

    >>> numbers("jitter", ".4/.2", "jitter:.4/.4/.4/.1", (0, 0, 0, 0))
    [0.4, 0.2, 0, 0]
    """
    words = text.split("/") if text else []
    if len(words) > len(defaults) or not all(_NUMBER.fullmatch(word) for word in words):
        most = "one number" if len(defaults) == 1 else f"at most {len(defaults)} numbers"
        raise ConfigError(f"augment '{name}:{text}': give {most}, as in '{example}'")
    if len(words) < least:
        raise ConfigError(f"augment '{name}': say how much, as in '{example}'")
    return [float(word) for word in words] + list(defaults[len(words) :])


def word(name: str, values: Sequence[float], defaults: Sequence[float] = ()) -> str:
    """The text of a word with its numbers, without those at the end that are as by default.

    >>> word("jitter", [0.4, 0.2, 0, 0], (0, 0, 0, 0)), word("grey", [0.2], (0.2,))
    ('jitter:0.4/0.2', 'grey')
    """
    kept = list(values)
    while kept and len(kept) <= len(defaults) and kept[-1] == defaults[len(kept) - 1]:
        kept.pop()
    return name + (":" + "/".join(f"{value:g}" for value in kept) if kept else "")
