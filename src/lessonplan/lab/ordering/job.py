"""One tree of a search, as a job that any process with the folder can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lessonplan.errors import DataError
from lessonplan.lab.ordering import store
from lessonplan.lab.ordering.config import OrderingConfig
from lessonplan.network.threads import cpu_threads
from lessonplan.order.perfect import Engine, State, Tree
from lessonplan.order.perfect.search import SearchPlan
from lessonplan.seeds import fold_seed

THREADS = 1
"""CPU threads of all that a search computes: its numbers are the same in one process and in many."""


@dataclass
class TreeJob:
    """All orders from one start in one epoch.

    Args:
        folder: of the search; the tree is stored there.
        config: of the search.
        build: makes the network; its weights are those of the start.
        epoch: from 1.
        start: number of the start, from 0.
        device: where the work is done.
        chunk: networks trained together, see ``Engine``.
    """

    folder: Path
    config: OrderingConfig
    build: Callable[[], nn.Module]
    epoch: int
    start: int
    device: str = "cpu"
    chunk: int | None = None

    @property
    def label(self) -> str:
        """For progress and logs."""
        return f"epoch {self.epoch}, start {self.start + 1}"

    def do(self) -> None:
        """Train, evaluate, store."""
        starts = store.read_starts(self.folder, self.epoch)
        if starts is None:
            raise DataError(f"{self.folder} has no starts of epoch {self.epoch}: run the search again")
        with cpu_threads(THREADS):
            engine = make_engine(self.folder, self.config, self.build, self.device, self.chunk)
            plan = search_plan(self.config, len(engine.y))
            orders = plan.orders(self.epoch, self.start)
            start = on_device(starts[self.start], self.device)
            loss, accuracy = engine.train(start, plan.batches(self.epoch), orders)
        store.write_tree(self.folder, Tree(self.epoch, self.start, orders, loss, accuracy))


def make_engine(
    folder: Path, config: OrderingConfig, build: Callable[[], nn.Module], device: str, chunk: int | None
) -> Engine:
    """The engine of a search whose samples are stored."""
    found = store.read_samples(folder)
    return Engine(
        build(),
        found["x"],
        found["y"],
        found["x_eval"],
        found["y_eval"],
        optimizer=config.optimizer_factory(),
        chunk=chunk,
        device=device,
        seed=fold_seed(config.seed, "noise"),
    )


def search_plan(config: OrderingConfig, samples: int) -> SearchPlan:
    """Splits and draws of a search."""
    return SearchPlan(samples, config.batch_size, config.redraw, config.max_permutations, config.seed)


def on_device(state: State, device: str) -> State:
    """A start's parameters where the work is done."""
    place = torch.device(device)
    return State({name: value.to(place) for name, value in state.params.items()})
