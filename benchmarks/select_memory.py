"""Claim: epochwise selection of a million samples grows the process by less than 50 MB.

The samples are made when they are asked for, so that memory is that of the selection: kept indices, scores,
and what the choice among them takes. Each row is a fresh process; growth is that of its largest resident size
(as the kernel counts it), from just before the first chunk is scored to the epoch's last batch. Before that,
20,000 samples have gone through, so that what libraries allocate once is not counted.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from lessonplan.mix import Network
from lessonplan.parts.part import Occasion
from lessonplan.select import Selecting, parse_select
from lessonplan.supply.epoch import Supply
from timing import repetitions, show, spread

SAMPLES, FEATURES, BATCH = 1_000_000, 16, 128
SELECTIONS = (
    "accuracy >> epochwise",
    "accuracy:margin=0.2 >> topk:0.5 >> epochwise",
    "topk:0.5 >> epochwise",
    "weighted:0.5,importance=true >> epochwise",
    "weighted:0.5 >> epochwise",
    "weighted:0.5,replacement=false >> epochwise",
    "qsplit:0.5,q=4 >> epochwise",
    "random:0.5 >> epochwise",
)


class Made:
    """Samples that exist only while they are asked for."""

    num_classes, device, reads_ahead = 10, torch.device("cpu"), False

    def __init__(self, count: int) -> None:
        self.labels = (torch.arange(count) * 7919 % 10).to(torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        phase = (indices[:, None] * 0.37 + epoch + 1.0) * torch.arange(1, FEATURES + 1)
        return phase.float().sin(), self.labels[indices]

    def batches(self, index_batches: Iterable[Tensor], epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in index_batches:
            yield self.fetch(indices, epoch)


def epoch_of(count: int, text: str) -> tuple[Supply, Made]:
    """An epoch that is about to begin."""
    data, select = Made(count), Selecting.of(parse_select(text))
    select.setup(Occasion(0, data, None, data.num_classes))
    supply = Supply(data, seed=0, network=Network(nn.Linear(FEATURES, 10)), select=select)
    supply.start_epoch(0, BATCH)
    return supply, data


def go_through(supply: Supply, data: Made) -> int:
    """All batches; how many samples they have."""
    trained = 0
    for batch in supply.batches():
        if batch is not None:
            trained += len(batch.read(data)[1])
    return trained


def peak() -> float:
    """The largest resident size so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def growth(text: str) -> tuple[float, float]:
    """MB by which the process grows, and the share of the samples that is kept."""
    torch.set_num_threads(1)
    go_through(*epoch_of(20_000, text))
    supply, data = epoch_of(SAMPLES, text)
    before = peak()
    trained = go_through(supply, data)
    return peak() - before, trained / SAMPLES


def main() -> None:
    """Measure, and print the table."""
    count = repetitions(__doc__, 3)
    rows = []
    for text in SELECTIONS:
        grown = []
        for _ in range(count):
            with multiprocessing.get_context("spawn").Pool(1) as process:
                grown.append(process.apply(growth, (text,)))
        rows.append([text, f"{grown[0][1]:.0%}", spread([g for g, _ in grown], digits=1)])
    show(
        f"Memory that epochwise selection of {SAMPLES:,} samples takes",
        ["selection", "kept", "growth, MB"],
        rows,
        ["to reach: below 50 MB for filters; 8 MB are an index for each sample"],
    )


if __name__ == "__main__":
    main()
