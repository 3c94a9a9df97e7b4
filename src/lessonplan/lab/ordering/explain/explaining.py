"""From a stored search to what separates its best orders from its worst ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lessonplan.errors import DataError
from lessonplan.files import write_json
from lessonplan.lab.ordering.config import OrderingConfig
from lessonplan.lab.ordering.explain.batches import batch_facts
from lessonplan.lab.ordering.explain.contrasts import contrast_features
from lessonplan.lab.ordering.explain.features import EXPANSION, Reach, expanded_loss, feature_words, order_features
from lessonplan.lab.ordering.explain.groups import LEAST, Group, make_group
from lessonplan.lab.ordering.explain.prediction import foretell_ranks
from lessonplan.lab.ordering.explain.stored import Agreement, Grown, StoredSearch, grow_again, open_search
from lessonplan.lab.ordering.job import THREADS
from lessonplan.lab.progress import RunCounter
from lessonplan.lock import sole_user
from lessonplan.network.accelerator import resolve_device
from lessonplan.network.threads import cpu_threads
from lessonplan.report.ordering import write_ordering
from lessonplan.train.usage import environment


def explain_orders(
    folder: str | Path,
    *,
    data: str | None = None,
    test: str | None = None,
    model: Callable[[], nn.Module] | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Find which features of an order go with a low loss at its end, in a search that is stored.

    Every tree's start is trained again from the survivors before it, and a few of its orders too: nothing is said
    of a search whose losses do not come out again. Then the best, the middle and the worst tenth of each tree are
    compared in features that are known before any of its orders is trained, and the rank of each order is foretold
    for epochs that nothing was fitted on.

    Args:
        folder: of the search; gets ``explanation.json``, and its page a section.
        data: where the data of the search lie now, if elsewhere.
        test: the same of test data.
        model: makes the network, for a search that was given a function.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.

    Returns:
        What is in ``explanation.json``: ``features`` (see `contrast_features`), ``foretold`` (see
        `foretell_ranks`), ``check`` (how far losses came out again).

    Raises:
        DataError: the folder holds no search, or its data, its rows or the code that made it have changed.

    Source: C. Simionescu, arXiv:2211.14395, section 2.5, proposes it.
    """
    folder = Path(folder)
    began = time.monotonic()
    place = str(resolve_device(device))
    with cpu_threads(THREADS):
        search = open_search(folder, data, test, model, place)
        with sole_user(folder):
            record = _explained(search, place, began)
            write_json(folder / "explanation.json", record)
            write_ordering(folder)
    return record


def _explained(search: StoredSearch, device: str, began: float) -> dict[str, Any]:
    config, agreement = search.config, Agreement()
    groups: list[Group] = []
    names: dict[str, None] = {}
    runs = trees = 0
    with RunCounter(len(search.trees), unit="trees") as counter:
        for grown in grow_again(search, agreement):
            group, there = _group(search, grown)
            names.update(dict.fromkeys(there))
            groups += [] if group is None else [group]
            runs, trees = runs + len(grown.tree.loss), trees + 1
            counter.finished(f"epoch {grown.tree.epoch}, start {grown.tree.start + 1}", None)
    if not groups:
        raise DataError(
            f"no tree of the search has {LEAST} orders with different losses: nothing separates them (more batches"
            " or a higher learning rate would)"
        )
    rows = contrast_features(groups, list(names))
    differing = [row["name"] for row in rows]
    words = feature_words(tuple(names), search.samples.class_names[1])
    return {
        "schema": 1,
        "runs": runs,
        "trees": trees,
        "epochs": sorted({group.epoch for group in groups}),
        "new_split_each_epoch": config.redraw,
        "check": agreement.to_json(),
        "features": [{**row, "words": words[row["name"]]} for row in rows],
        "same_for_all_orders": [name for name in names if name not in differing],
        "foretold": foretell_ranks(groups, [name for name in names if name in differing], config.seed),
        "seconds": time.monotonic() - began,
        "environment": environment(device),
    }


def _group(search: StoredSearch, grown: Grown) -> tuple[Group | None, Sequence[str]]:
    """A tree's features, and their names."""
    config, tree = search.config, grown.tree
    facts = batch_facts(search.engine, grown.start, grown.batches)
    orders, reach, lr = tree.orders.numpy(), _reach(config), config.learning_rate
    features = order_features(orders, facts, reach, lr)
    oracle = None if reach is None else expanded_loss(orders, facts.evaluation, reach, lr)[EXPANSION]
    return make_group(tree.epoch, tree.start, orders, tree.loss.numpy(), features, oracle), list(features)


def _reach(config: OrderingConfig) -> Reach | None:
    return Reach(config.used_momentum, config.nesterov) if config.optimizer == "sgd" else None
