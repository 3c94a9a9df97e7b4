"""The vocabulary of changes: from a word to what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lessonplan.data.augmentation.change import Change
from lessonplan.data.augmentation.colours import Blur, Grey, Jitter, Noise, Sobel
from lessonplan.data.augmentation.policies import AutoAugment, Policy, Rand, Trivial
from lessonplan.data.augmentation.warp import Pad

_MAKERS: dict[str, Callable[[str], Change]] = {
    "jitter": Jitter.make,
    "grey": Grey.make,
    "blur": Blur.make,
    "noise": Noise.make,
    "sobel": Sobel.make,
    "trivial": Trivial.make,
    "rand": Rand.make,
    "auto-augment": AutoAugment.make,
}
CHANGES = tuple(_MAKERS)
EXAMPLES = (
    "jitter:0.4/0.4/0.4/0.1", "grey:0.2", "blur:0.5", "noise:0.1", "sobel:0.2", "trivial", "rand:2/9",
    "auto-augment:imagenet",
)  # fmt: skip
"""Each word as one may write it."""


def read_change(name: str, value: str, pad: Pad) -> Change:
    """The change that a word names.

    Args:
        name: one of ``CHANGES``.
        value: what stands behind its colon, or empty.
        pad: what lies outside moved pictures.

    Raises:
        ConfigError: numbers that cannot be.
    """
    change = _MAKERS[name](value)
    return replace(change, pad=pad) if isinstance(change, Policy) else change
