"""Claim: carried overflow and fitting raw batches take at least 1.3 times fewer forward passes an update.

Acceptance falls from .9 to .05 over a run of 500,000 candidates, as it does while a network learns: linearly,
or by the same factor each time (exponentially). ASSIST's algorithm 10 as printed draws raw batches as large
as a batch and throws away what a batch has no room for; it is written plainly here, and counts its own
passes. Ours are counted by a hook on the network. What counts is every sample forwarded, to be scored or to
be trained on, divided by the updates. Where the network allows it (no batch norm, no dropout) and most
samples are accepted, the pass that scores is the pass that trains; the row without that holds for every
network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

import lessonplan as lp
from lessonplan.batch import EpochReader
from lessonplan.mix import Network
from lessonplan.select import Batchwise, Filter, Scored
from lessonplan.select.tally import Tally
from timing import repetitions, show, spread

CANDIDATES, BATCH = 500_000, 128
FALLS: dict[str, Callable[[float], float]] = {
    "linearly": lambda done: 0.9 + (0.05 - 0.9) * done,
    "exponentially": lambda done: 0.9 * (0.05 / 0.9) ** done,
}


@dataclass(eq=False)
class Falling(Filter):
    """Accepts a share of the candidates, by chance, which depends on how many there were before."""

    name: ClassVar[str] = "falling"
    fall: str = "linearly"
    drawn: int = 0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        raise AssertionError("mask draws")

    def mask(self, scored: Scored, generator: torch.Generator) -> Tensor:
        share = FALLS[self.fall](self.drawn / CANDIDATES)
        self.drawn += len(scored)
        return torch.rand(len(scored), generator=generator) < share


@dataclass
class Spent:
    """What a run took."""

    updates: int
    forwarded: int
    thrown_away: int

    @property
    def per_update(self) -> float:
        return self.forwarded / self.updates


def algorithm_10(fall: str, seed: int) -> Spent:
    """As printed, with a full batch at ``>=``; counts only, for the network plays no part in them."""
    generator = torch.Generator().manual_seed(seed)
    updates = forwarded = accumulated = thrown_away = 0
    for drawn in range(0, CANDIDATES, BATCH):
        candidates = min(BATCH, CANDIDATES - drawn)
        forwarded += candidates
        share = FALLS[fall](drawn / CANDIDATES)
        accumulated += int((torch.rand(candidates, generator=generator) < share).sum())
        if accumulated >= BATCH:
            forwarded += BATCH
            updates += 1
            thrown_away += accumulated - BATCH
            accumulated = 0
    return Spent(updates, forwarded, thrown_away)


def ours(fall: str, seed: int, reuse: bool) -> Spent:
    """The engine itself, with a network as small as can be."""
    data = lp.data.load(
        (torch.zeros(CANDIDATES, 1), torch.arange(CANDIDATES) % 2), val_fraction=0.0, test_fraction=0.0
    )
    network, passes = nn.Linear(1, 2), [0]

    def count(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        passes[0] += len(out)

    network.register_forward_hook(count)
    stage, tally = Batchwise(Falling(fall), reuse="auto" if reuse else "never"), Tally()
    reader = EpochReader(data.train, torch.arange(CANDIDATES), epoch=0)
    generator = torch.Generator().manual_seed(seed)
    for batch in stage.batches(reader, Network(network), BATCH, generator, tally):
        if batch is not None and batch.logits is None:
            network(batch.read(data.train)[0])
    return Spent(tally.updates, passes[0], tally.discarded)


def main() -> None:
    """Count, and print the table."""
    count = repetitions(__doc__, 5)
    rows = []
    for fall in FALLS:
        printed = [algorithm_10(fall, seed) for seed in range(count)]
        for name, reuse in (("one pass where it can be", True), ("two passes always", False)):
            mine = [ours(fall, seed, reuse) for seed in range(count)]
            rows.append(
                [
                    f"{fall}, {name}",
                    spread([s.per_update for s in printed], digits=0),
                    spread([s.per_update for s in mine], digits=0),
                    spread([a.per_update / b.per_update for a, b in zip(printed, mine, strict=True)]),
                    f"{printed[0].updates}, {mine[0].updates}",
                    f"{printed[0].thrown_away}, {mine[0].thrown_away}",
                ]
            )
    show(
        f"Samples forwarded for an update of {BATCH}, acceptance falling from .9 to .05",
        ["acceptance falls", "algorithm 10", "ours", "times fewer", "updates: it, ours", "thrown away: it, ours"],
        rows,
        [
            f"to reach: at least 1.30 times fewer; {count} seeds, {CANDIDATES:,} candidates",
            f"two passes can never take fewer than {BATCH} / a + {BATCH} for an update at an acceptance of a",
        ],
    )


if __name__ == "__main__":
    main()
