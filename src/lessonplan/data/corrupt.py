"""Label noise: some training labels replaced by random ones, to see what a network memorises."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lessonplan.data.keyed import keyed_bits, stream_key
from lessonplan.errors import ConfigError

_NOISE = 0x4E4F_4953_45  # keeps the draws of label noise apart from other uses of the same seed


@dataclass(frozen=True)
class NoisyLabels:
    """Labels of which some were drawn anew.

    Attributes:
        labels: ``(n,)`` int64 as a network is taught them.
        corrupted: ``(n,)`` bool, whose label was drawn; of those about 1 in C drew its own class again.
    """

    labels: Tensor
    corrupted: Tensor


def check_noise(fraction: float) -> None:
    """Raise ConfigError unless this fraction of labels can be noise."""
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0.0 <= fraction <= 1.0:
        raise ConfigError(f"label_noise={fraction!r}: give the fraction of labels to replace, from 0 to 1")


def corrupt(labels: Tensor, rows: Tensor, fraction: float, num_classes: int, *, seed: int) -> NoisyLabels:
    """Replace a fixed fraction of labels by ones drawn uniformly from all classes.

    As in the experiments of Zhang et al. ("mixup", ICLR 2018, section 3.4, after arXiv:1611.03530), the true
    class may be drawn again: a network that ignores the noise errs on about ``1 - 1 / num_classes`` of the
    corrupted part (90% for ten classes; in their table at 20% noise mixup and dropout have 84 to 86%).

    Args:
        labels: ``(n,)`` int64 true classes.
        rows: ``(n,)`` int64 distinct rows in the source; with the seed they are the key, so that a row gets
            the same random class in any set that holds it, and more noise keeps the noise there was.
        fraction: how many of the n are replaced, rounded to a whole number; from 0 to 1.
        num_classes: C; classes are drawn from 0 to C - 1.
        seed: any integer.

    Raises:
        ConfigError: a fraction outside 0 to 1.

    >>> noisy = corrupt(torch.zeros(10, dtype=torch.int64), torch.arange(10), 0.3, 4, seed=0)
    >>> int(noisy.corrupted.sum()), bool((noisy.labels[~noisy.corrupted] == 0).all())
    (3, True)
    """
    check_noise(fraction)
    bits = keyed_bits(stream_key(seed, _NOISE), rows, 2)
    count = int(fraction * len(rows) + 0.5)
    corrupted = torch.zeros(len(rows), dtype=torch.bool)
    corrupted[torch.argsort(bits[:, 0], stable=True)[:count]] = True
    # 62 random bits: the bias of the remainder is below C / 2^62.
    drawn = (bits[:, 1] & ((1 << 62) - 1)) % num_classes
    return NoisyLabels(torch.where(corrupted, drawn, labels), corrupted)
