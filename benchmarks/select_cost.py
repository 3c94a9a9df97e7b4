"""Claim: selection costs at most 10% more wall clock than the floor that its acceptance sets.

To score a sample is one forward pass and to train on it three: per candidate (1 + 3 a) / 3 plain steps where
a of them are trained on. Where most are accepted and no layer looks at the whole batch, one pass does both: 1
plain step. A synthetic filter accepts a given share by chance. The naive side is ASSIST's algorithm 10
written plainly: raw batches as large as a batch, what does not fit in is thrown away. Plain steps and the
naive loop run over float tensors in memory; ours is ``fit``, the seconds of its loop, reading, counting and
checks included. Floors are of what was really trained on: of ours, and of the naive loop its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.data import Data
from lessonplan.models.wide_resnet import WideResNet
from lessonplan.network.untouched import seeded
from lessonplan.select import Batchwise, Filter, Scored
from timing import interleaved, ratio, repetitions, show, spread

SAMPLES, BATCH, LR = 4096, 128, 0.01
SHARES = (0.9, 0.5, 0.25, 0.1)


@dataclass(eq=False)
class Share(Filter):
    """Accepts a share of the candidates, by chance; the network is asked all the same."""

    name: ClassVar[str] = "share"
    share: float = 0.5

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        raise AssertionError("mask draws")

    def mask(self, scored: Scored, generator: torch.Generator) -> Tensor:
        assert scored.logits is not None
        return torch.rand(len(scored), generator=generator) < self.share


@dataclass
class Spent:
    """What a pass over the candidates took."""

    seconds: float
    forwarded: int
    backpropagated: int
    trained: int

    @property
    def cost(self) -> float:
        """Per candidate, in sample passes: forward 1, backward 2."""
        return (self.forwarded + 2 * self.backpropagated) / SAMPLES


def synthetic() -> Data:
    """Colour images of 32 x 32 pixels of ten classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (SAMPLES, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return lp.data.load((x, torch.arange(SAMPLES) % 10), augment="none", val_fraction=0.0, test_fraction=0.0)


def network(norm: str) -> nn.Module:
    """WRN-10-1, always the same weights."""
    with seeded(0):
        return WideResNet(10, 1, norm=norm)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), LR, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)


def plain_steps(norm: str, x: Tensor, y: Tensor) -> Spent:
    """Train on every candidate."""
    model = network(norm).train()
    optimizer = optimizer_of(model)
    began = time.perf_counter()
    for rows in torch.randperm(SAMPLES).split(BATCH):
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return Spent(time.perf_counter() - began, SAMPLES, SAMPLES, SAMPLES)


def algorithm_10(norm: str, x: Tensor, y: Tensor, share: float) -> Spent:
    """ASSIST's batchwise filtering as printed."""
    model = network(norm).train()
    optimizer, generator = optimizer_of(model), torch.Generator().manual_seed(0)
    accumulated = torch.zeros(0, dtype=torch.int64)
    forwarded = trained = 0
    began = time.perf_counter()
    for rows in torch.randperm(SAMPLES).split(BATCH):
        with torch.no_grad():
            model(x[rows])
        forwarded += len(rows)
        accumulated = torch.cat([accumulated, rows[torch.rand(len(rows), generator=generator) < share]])
        if len(accumulated) >= BATCH:
            batch = accumulated[:BATCH]
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            trained += BATCH
            accumulated = accumulated[:0]
    return Spent(time.perf_counter() - began, forwarded + trained, trained, trained)


def ours(norm: str, data: Data, share: float) -> Spent:
    """The same by ``fit``."""
    run = lp.fit(
        network(norm),
        data,
        lp.Plan(Batchwise(Share(share))),
        "1ep",
        batch_size=BATCH,
        lr=LR,
        schedule="constant",
    )
    last = run.history[-1]
    seconds = last["system"]["seconds"]
    return Spent(seconds, last["forwarded"], last["backpropagated"], last["select"]["trained"])


def measure(norm: str, data: Data, count: int) -> list[list[str]]:
    """A row for each share."""
    x, y = data.train.fetch(torch.arange(SAMPLES))
    spent: dict[str, list[Spent]] = {}

    def keep(name: str, side: Callable[[], Spent]) -> Callable[[], None]:
        return lambda: spent.setdefault(name, []).append(side())

    sides = {"plain": keep("plain", lambda: plain_steps(norm, x, y))}
    for share in SHARES:
        sides[f"ours {share}"] = keep(f"ours {share}", lambda share=share: ours(norm, data, share))
        sides[f"naive {share}"] = keep(f"naive {share}", lambda share=share: algorithm_10(norm, x, y, share))
    interleaved(sides, count)
    times = {name: [s.seconds for s in runs[1:]] for name, runs in spent.items()}
    steps, rows = [s.seconds for s in spent["plain"][1:]], []
    for share in SHARES:
        mine, naive = spent[f"ours {share}"][-1], spent[f"naive {share}"][-1]
        once = norm != "batch" and share > 2 / 3
        floor = 1.0 if once else (1 + 3 * mine.trained / SAMPLES) / 3
        seconds = [floor * s for s in steps]
        rows.append(
            [
                f"{norm} norm, {share:.0%}" + (", one pass" if once else ""),
                spread(seconds, 1000 * 1000 / SAMPLES, 0),
                spread(times[f"ours {share}"], 1000 * 1000 / SAMPLES, 0),
                spread(ratio({"ours": times[f"ours {share}"], "floor": seconds}, "ours", "floor")),
                spread(times[f"naive {share}"], 1000 * 1000 / SAMPLES, 0),
                f"{3 * floor:.2f}, {mine.cost:.2f}, {naive.cost:.2f}",
                f"{mine.trained / SAMPLES:.2f}, {naive.trained / SAMPLES:.2f}",
                spread(
                    [
                        a / mine.trained * naive.trained / b
                        for a, b in zip(times[f"ours {share}"], times[f"naive {share}"], strict=True)
                    ]
                ),
            ]
        )
    return rows


def main() -> None:
    """Measure, and print the table."""
    count = repetitions(__doc__, 5)
    data = synthetic()
    rows = [row for norm in ("batch", "group") for row in measure(norm, data, count)]
    show(
        f"Batchwise selection with WRN-10-1, batch {BATCH}, 32 x 32: milliseconds per 1000 candidates",
        [
            "accepted",
            "floor",
            "ours",
            "ours / floor",
            "algorithm 10",
            "cost: floor, ours, it",
            "trained: ours, it",
            "ours / it, a trained",
        ],
        rows,
        [
            "to reach: ours / floor at most 1.10",
            "it: algorithm 10; cost: sample passes a candidate (forward 1, backward 2); trained: share of them;"
            " ours / it, a trained: seconds for a sample that is trained on",
        ],
    )


if __name__ == "__main__":
    main()
