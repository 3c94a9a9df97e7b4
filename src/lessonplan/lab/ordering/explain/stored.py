"""A stored search made ready to go on: its samples, its engine, and the start of every tree again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, DataError, LessonplanError
from lessonplan.lab.ordering import store
from lessonplan.lab.ordering.config import OrderingConfig
from lessonplan.lab.ordering.job import search_plan
from lessonplan.lab.ordering.samples import Samples, load_samples
from lessonplan.lab.ordering.search import FORMAT, Build
from lessonplan.order.perfect import Engine, State, Tree
from lessonplan.order.perfect.search import SearchPlan, next_starts
from lessonplan.seeds import fold_seed
from lessonplan.stored import read_yaml

CHECKED = 5  # orders of each tree that are trained again
_AGREEING = 0.6  # share of them whose loss must come out again; one in hundreds goes astray at a ReLU's corner
_OF_SPREAD, _OF_LOSS = 1e-2, 1e-5  # what counts as the same loss: a hundredth of the tree's spread, or rounding


@dataclass(frozen=True)
class StoredSearch:
    """A search as its folder has it, and what it was made of.

    Attributes:
        config: what it is.
        samples: that it trains on and is evaluated on.
        engine: trains orders as it did.
        plan: its splits and draws.
        trees: by (epoch, start).
    """

    config: OrderingConfig
    samples: Samples
    engine: Engine
    plan: SearchPlan
    trees: dict[tuple[int, int], Tree]


@dataclass(frozen=True)
class Grown:
    """A tree with what it grew from.

    Attributes:
        tree: orders and what became of them.
        start: the network that all of them began with.
        batches: sample numbers of each batch.
    """

    tree: Tree
    start: State
    batches: tuple[Tensor, ...]


@dataclass
class Agreement:
    """How far losses that were computed again are those that are stored.

    Attributes:
        differences: one for each order that was trained again.
        agreeing: how many of them are within what counts as the same.
    """

    differences: list[float] = field(default_factory=list)
    agreeing: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "orders": len(self.differences),
            "agreeing": self.agreeing,
            "median_difference": float(np.median(self.differences)),
            "largest_difference": max(self.differences),
        }


def open_search(
    folder: Path,
    data: str | None = None,
    test: str | None = None,
    model: Callable[[], nn.Module] | None = None,
    device: str = "cpu",
) -> StoredSearch:
    """Read a search and the samples it was made with.

    Args:
        folder: of the search.
        data: where its data lie now, if elsewhere.
        test: the same of test data.
        model: makes the network, for a search that was given a function.
        device: where the networks are computed.

    Raises:
        DataError: the folder holds no search, or one of other data. ConfigError: a network that cannot be made
            from its name.
    """
    if not (folder / "config.yaml").is_file() or not (folder / "runs.csv").is_file():
        raise DataError(f"{folder} holds no search for orders: give the folder that lessonplan order wrote")
    config, fingerprint = _read_config(folder, data, test)
    try:
        samples = load_samples(config)
    except LessonplanError as error:
        raise DataError(f"{error} (samples of the search in {folder}; --data says where they lie)") from None
    if samples.fingerprint != fingerprint:
        raise DataError(
            f"{config.data} gives other samples ({samples.fingerprint}) than the search in {folder} was made with"
            f" ({fingerprint}): give the same source as data"
        )
    trees = store.read_trees(folder)
    if (1, 0) not in trees:
        raise DataError(f"{folder / 'runs.csv'} has no runs of the first epoch: make the search again")
    shape, weights = tuple(samples.x.shape[1:]), fold_seed(config.seed, "weights")
    build = Build(model or config.model, shape, samples.outputs, weights)
    engine = Engine(
        build(), samples.x, samples.y, samples.x_eval, samples.y_eval, optimizer=config.optimizer_factory(),
        device=device, seed=fold_seed(config.seed, "noise"),
    )  # fmt: skip
    return StoredSearch(config, samples, engine, search_plan(config, len(samples.y)), trees)


def _read_config(folder: Path, data: str | None, test: str | None) -> tuple[OrderingConfig, str]:
    """The options of a search, and the hash of its samples."""
    stored = read_yaml(folder / "config.yaml")
    if not isinstance(stored, dict) or not {"samples", "survivors", "format"} <= set(stored):
        raise DataError(f"{folder} holds no search for orders: give the folder that lessonplan order wrote")
    if stored["format"] != FORMAT:
        raise DataError(f"{folder} was written by another version of lessonplan: make the search again")
    given = {name: value for name, value in stored.items() if name not in ("format", "samples")}
    if isinstance(given.get("classes"), list):
        given["classes"] = tuple(given["classes"])
    if given.get("optimizer") != "sgd":
        given.pop("momentum", None)  # 0 is written of all of them, and only sgd takes one
    given.update({name: value for name, value in (("data", data), ("test", test)) if value is not None})
    try:
        return OrderingConfig.make(**given), str(stored["samples"])
    except ConfigError as error:
        raise DataError(f"{folder / 'config.yaml'} is damaged ({error}): put it back") from None


def grow_again(search: StoredSearch, agreement: Agreement) -> Iterator[Grown]:
    """Every stored tree with its start, which is trained again from the survivors before it, and checked.

    Args:
        search: whose trees are wanted.
        agreement: is told of every order that was checked.

    Raises:
        DataError: what is trained again does not give the losses that are stored.
    """
    config, engine = search.config, search.engine
    starts, epoch = [engine.start()], 1
    while True:
        batches = search.plan.batches(epoch)
        trees = [search.trees.get((epoch, number)) for number in range(len(starts))]
        for start, tree in zip(starts, trees, strict=True):
            if tree is not None:
                _check(engine, start, batches, tree, agreement)
                yield Grown(tree, start, batches)
        finished = [tree for tree in trees if tree is not None]
        if len(finished) < len(starts) or (epoch + 1, 0) not in search.trees:
            return
        seed = fold_seed(config.seed, epoch)
        starts = next_starts(engine, batches, starts, finished, config.survivors, seed)
        epoch += 1


def _check(engine: Engine, start: State, batches: tuple[Tensor, ...], tree: Tree, agreement: Agreement) -> None:
    """Train a few orders of a tree again.

    The last digits of a loss depend on how many networks are trained together, and where a unit stands at its
    corner such a digit can send a run another way; so most of a tree's orders must come out again, not all.
    """
    if tree.orders.shape[1] != len(batches):
        raise DataError(f"runs.csv has orders of {tree.orders.shape[1]} batches, its data give {len(batches)}")
    rows = torch.linspace(0, len(tree.loss) - 1, min(CHECKED, len(tree.loss))).round().long().unique()
    again, _ = engine.train(start, batches, tree.orders[rows])
    stored = tree.loss[rows]
    finite = tree.loss[tree.loss.isfinite()]
    spread = float(finite.std()) if len(finite) > 1 else 0.0
    difference = torch.where(again == stored, 0.0, (again - stored).abs())  # two infinities are equal
    difference[~again.isfinite() & ~stored.isfinite()] = 0.0
    same = difference <= torch.maximum(_OF_LOSS * stored.abs(), torch.tensor(_OF_SPREAD * spread))
    agreement.differences += difference.tolist()
    agreement.agreeing += int(same.sum())
    if int(same.sum()) < _AGREEING * len(rows):
        row = int(difference.nan_to_num(torch.inf).argmax())
        raise DataError(
            f"epoch {tree.epoch}, start {tree.start + 1}: an order that is trained again ends with loss"
            f" {again[row]:.9g}, stored is {stored[row]:.9g}: runs.csv or the code that made it has changed, make"
            " the search again"
        )
