"""Claim: ``fit`` with an empty plan is at most 5% slower than a hand-written loop.

The loop is the shortest there is: normalised float tensors in memory, the same network, batches, optimizer
and learning rates, no metrics, no checks. ``fit`` normalises uint8 images, gathers losses, watches for NaN,
and its time is that of the whole call, the final evaluation on ten images included.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

import lessonplan as lp
from lessonplan.data import Data
from lessonplan.models import build_model
from lessonplan.seeds import fold_seed
from synthetic import colour_images
from timing import interleaved, ratio, repetitions, show, spread

SAMPLES, BATCH, LR = 2000, 100, 0.05
STEPS = {"tiny": 120, "wrn-10-1": 60}


def network(name: str) -> nn.Module:
    """The weights that ``fit`` starts from with seed 0."""
    return build_model(name, shape=(3, 32, 32), num_classes=10, seed=fold_seed(0, "weights"))


def by_hand(name: str, x: torch.Tensor, y: torch.Tensor, steps: int) -> nn.Module:
    """SGD over tensors."""
    model = network(name).train()
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    done = 0
    for epoch in range(math.ceil(steps * BATCH / SAMPLES)):
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(fold_seed(0, "order", epoch)))
        for batch in order.split(BATCH):
            if done == steps:
                break
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.param_groups[0]["lr"] = LR * (1 + math.cos(math.pi * done / steps)) / 2
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
    return model


def with_fit(name: str, data: Data, steps: int) -> nn.Module:
    """The same by ``fit``."""
    return lp.fit(network(name), data, None, f"{steps} steps", seed=0, batch_size=BATCH, lr=LR).model


def main() -> None:
    """Measure, and print the table."""
    count = repetitions(__doc__, 7)
    data = colour_images(SAMPLES)
    x, y = data.train.fetch(torch.arange(SAMPLES))
    rows = []
    for name, steps in STEPS.items():
        for a, b in zip(by_hand(name, x, y, 4).parameters(), with_fit(name, data, 4).parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        times = interleaved(
            {
                "hand": lambda name=name, steps=steps: by_hand(name, x, y, steps),
                "fit": lambda name=name, steps=steps: with_fit(name, data, steps),
            },
            count,
        )
        rows.append(
            [
                f"{name}, {steps} updates of {BATCH}",
                spread(times["hand"]),
                spread(times["fit"]),
                spread([100 * (r - 1) for r in ratio(times, "fit", "hand")], digits=1),
            ]
        )
    show(
        "fit with an empty plan against a hand-written loop",
        ["", "by hand, seconds", "fit, seconds", "slower by %"],
        rows,
        ["to reach: at most 5% slower; both end with the same weights"],
    )


if __name__ == "__main__":
    main()
