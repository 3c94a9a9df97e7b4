"""Claim: SumAugment(4), labels included, takes at most 0.4 of a copy of the batch, and 1/5 of a pairwise mixup.

A batch of (1024, 3, 32, 32) float32 in memory. "memory reused": a result is let go before the next call, which
gets the same memory again; "new memory": results are held, as in a queue of prepared batches, and the operating
system has to find pages for each. "mixup by roll" is what most training scripts do: the batch
shifted by one as partners, and one-hot labels. timm and torchvision take part where they are installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lessonplan as lp
from timing import interleaved, ratio, repetitions, show, spread

BATCH, CLASSES, K, CALLS = 1024, 10, 4, 20
Pair = tuple[Tensor, Tensor]


def group_mean(x: Tensor) -> Tensor:
    """The inputs' half of the sum, as short as it can be written."""
    return x.view(K, BATCH // K, *x.shape[1:]).mean(0)


def mixup_by_roll(x: Tensor, y: Tensor) -> Pair:
    """Pairwise mixup as it is usually written."""
    lam = float(torch.distributions.Beta(1.0, 1.0).sample())
    target = F.one_hot(y, CLASSES).float()
    return lam * x + (1 - lam) * x.roll(1, 0), lam * target + (1 - lam) * target.roll(1, 0)


def others(x: Tensor, y: Tensor) -> dict[str, Callable[[], Any]]:
    """The mixups of other libraries."""
    found: dict[str, Callable[[], Any]] = {}
    if importlib.util.find_spec("timm") is not None:
        from timm.data import Mixup

        timm_mixup = Mixup(mixup_alpha=1.0, num_classes=CLASSES, label_smoothing=0.0)
        # timm writes into the batch it is given, so it gets one of its own.
        own = x.clone()
        found["timm Mixup (in place)"] = lambda: timm_mixup(own, y)
    if importlib.util.find_spec("torchvision") is not None:
        try:
            from torchvision.transforms import v2
        except (ImportError, RuntimeError):  # its wheels refuse some builds of torch
            return found
        vision_mixup = v2.MixUp(num_classes=CLASSES)
        found["torchvision MixUp"] = lambda: vision_mixup(x, y)
    return found


def check(x: Tensor, y: Tensor) -> None:
    """Our sums are what a loop over the samples gives."""
    mixed, target = lp.mix.SumAugment(K, num_classes=CLASSES)(x, y)
    rows = BATCH // K
    for i in (0, 1, rows - 1):
        members = range(i, BATCH, rows)
        torch.testing.assert_close(mixed[i], sum(x[j] for j in members) / K)
        torch.testing.assert_close(target[i], sum(F.one_hot(y[j], CLASSES) for j in members) / K)
    torch.testing.assert_close(group_mean(x), mixed)


def main() -> None:
    """Measure, and print the table."""
    count = repetitions(__doc__, 15)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, 32, 32, generator=generator)
    y = torch.randint(CLASSES, (BATCH,), generator=generator)
    check(x, y)
    ours, our_mixup = lp.mix.SumAugment(K, num_classes=CLASSES), lp.mix.Mixup(num_classes=CLASSES)
    our_cutmix = lp.mix.CutMix(num_classes=CLASSES)
    sides: dict[str, Callable[[], Any]] = {
        "torch.clone (inputs only)": x.clone,
        "plain group mean (inputs only)": lambda: group_mean(x),
        "lessonplan SumAugment(4)": lambda: ours(x, y),
        "mixup by roll": lambda: mixup_by_roll(x, y),
        "lessonplan Mixup": lambda: our_mixup(x, y),
        "lessonplan CutMix": lambda: our_cutmix(x, y),
        **others(x, y),
    }
    clone, _, sums, roll, *_ = sides
    reused = interleaved(sides, count, CALLS)
    new = interleaved(sides, count, CALLS, keep=True)
    rows = [
        [name, *(text for t in (reused, new) for text in (spread(t[name], 1e3), spread(ratio(t, name, clone))))]
        for name in sides
    ]
    notes = [
        f"SumAugment(4) / torch.clone: {spread(ratio(reused, sums, clone))} with memory reused,"
        f" {spread(ratio(new, sums, clone))} with new memory, to reach: at most 0.40",
        f"mixup by roll / SumAugment(4): {spread(ratio(reused, roll, sums))} with memory reused,"
        f" {spread(ratio(new, roll, sums))} with new memory, to reach: at least 5.00",
    ]
    columns = ["", "memory reused, ms", "of clone", "new memory, ms", "of clone"]
    show("Mixing a batch of (1024, 3, 32, 32) float32", columns, rows, notes)


if __name__ == "__main__":
    main()
