"""The whole search in memory, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.order.perfect.engine import Engine
from lessonplan.order.perfect.permutations import batch_split, permutations
from lessonplan.order.perfect.state import State
from lessonplan.order.perfect.survivors import choose_survivors
from lessonplan.seeds import fold_seed


@dataclass(frozen=True)
class Tree:
    """What became of all orders from one start in one epoch.

    Attributes:
        epoch: from 1.
        start: number of the start among the epoch's, from 0.
        orders: ``(P, n)`` permutations of the epoch's batches.
        loss: ``(P,)`` evaluation loss, float64.
        accuracy: ``(P,)`` evaluation accuracy in [0, 1], float64.
    """

    epoch: int
    start: int
    orders: Tensor
    loss: Tensor
    accuracy: Tensor


@dataclass(frozen=True)
class SearchPlan:
    """What is random in a search, as functions of its seed.

    Args:
        samples: number of training samples.
        batch_size: samples of a batch.
        redraw: a new split into batches each epoch (algorithm 1), or one for all (the thesis' text).
        max_permutations: orders drawn for a tree where there are more; None trains all.
        seed: of splits and draws.
    """

    samples: int
    batch_size: int
    redraw: bool = True
    max_permutations: int | None = None
    seed: int = 0

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """The split of an epoch, which counts from 1."""
        return batch_split(self.samples, self.batch_size, fold_seed(self.seed, epoch if self.redraw else 1))

    def orders(self, epoch: int, start: int) -> Tensor:
        """The orders trained from a start: all, or a draw of its own."""
        count = -(-self.samples // self.batch_size)
        return permutations(count, self.max_permutations, fold_seed(self.seed, epoch, start))


def perfect_ordering(
    engine: Engine,
    *,
    batch_size: int,
    epochs: int,
    survivors: int = 12,
    redraw: bool = True,
    max_permutations: int | None = None,
    seed: int = 0,
) -> Iterator[Tree]:
    """Train all orders of an epoch's batches from every start, keep the survivors as the next epoch's starts.

    Args:
        engine: network, data, optimizer.
        batch_size: samples of a batch; 48 samples in batches of 8 have 720 orders.
        epochs: how many, 1 or more. The first has one tree, every other one ``survivors`` of them.
        survivors: starts of the next epoch, see `choose_survivors`.
        redraw: a new split into batches each epoch, or one for all.
        max_permutations: orders drawn for a tree where there are more.
        seed: of splits, draws and clusters.

    Yields:
        One `Tree` after the other, as they are finished.

    Raises:
        ConfigError: numbers that cannot be used, more permutations than can be enumerated, divergence.

    Source: C. Simionescu, arXiv:2211.14395, algorithm 1 (C. Pascaru).
    """
    if epochs < 1:
        raise ConfigError(f"epochs={epochs}: give at least 1")
    plan = SearchPlan(len(engine.y), batch_size, redraw, max_permutations, seed)
    starts = [engine.start()]
    for epoch in range(1, epochs + 1):
        batches, trees = plan.batches(epoch), []
        for number, start in enumerate(starts):
            orders = plan.orders(epoch, number)
            tree = Tree(epoch, number, orders, *engine.train(start, batches, orders))
            trees.append(tree)
            yield tree
        if epoch < epochs:
            starts = next_starts(engine, batches, starts, trees, survivors, fold_seed(seed, epoch))


def next_starts(
    engine: Engine,
    batches: tuple[Tensor, ...],
    starts: list[State],
    trees: list[Tree],
    survivors: int,
    seed: int,
) -> list[State]:
    """The survivors of an epoch, trained again from its starts, in the order of their loss.

    Args:
        engine: of the search.
        batches: the epoch's split.
        starts: the epoch's starts.
        trees: one for each start, in the same order.
        survivors: how many to keep.
        seed: of the clusters.
    """
    chosen = choose_survivors(torch.cat([tree.loss for tree in trees]), survivors, seed)
    places: dict[int, State] = {}
    first = 0
    for start, tree in zip(starts, trees, strict=True):
        rows = chosen[(chosen >= first) & (chosen < first + len(tree.loss))].sort().values
        if len(rows):
            ends = engine.replay(start, batches, tree.orders[rows - first])
            places.update({int(row): ends.rows(place) for place, row in enumerate(rows)})
        first += len(tree.loss)
    return [places[int(row)] for row in chosen]
