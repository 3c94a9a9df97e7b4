"""The folder of a search.

``config.yaml`` says what the search is; ``runs.csv`` has a row a run; ``trees/`` holds the finished trees of the
epoch under way, each a file of its own; ``work/`` what processes need: the samples, and the starts of the epoch.
``ordering.json`` is the summary that the page is made of.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from torch import Tensor

from lessonplan.errors import ConfigError, DataError, first_line
from lessonplan.files import remove_leftovers, write_atomically, write_json
from lessonplan.lab.ordering.samples import Samples
from lessonplan.order.perfect import State, Tree
from lessonplan.order.perfect.state import stack
from lessonplan.stored import read_json, read_tensors, read_yaml
from lessonplan.train.identity import dotted_name
from lessonplan.train.run_folder import describe_differences, in_words

COLUMNS = ("epoch", "start", "permutation", "loss", "accuracy")
_AGAIN = "give another folder"


def claim_folder(folder: Path, identity: dict[str, Any]) -> None:
    """Write ``config.yaml``, or check that it is the same search.

    Raises:
        ConfigError: the folder holds another search; the differences are named.
    """
    identity = json.loads(json.dumps(identity))
    file = folder / "config.yaml"
    if file.exists():
        existing = read_yaml(file)
        if existing not in (identity, {**identity, "model": dotted_name(identity["model"])}):
            differences = in_words(describe_differences(existing, identity))
            raise ConfigError(
                f"{folder} holds another search ({differences}): give another folder, or the same options to go on"
            )
    else:
        write_atomically(file, yaml.safe_dump(identity, sort_keys=False).encode())
    for place in (folder, folder / "trees", folder / "work"):
        place.mkdir(parents=True, exist_ok=True)
        remove_leftovers(place)


def write_samples(folder: Path, samples: Samples) -> None:
    """Put the samples where the processes find them."""
    tensors = {name: getattr(samples, name).contiguous() for name in ("x", "y", "x_eval", "y_eval")}
    write_atomically(folder / "work" / "samples.safetensors", safetensors.torch.save(tensors))


def read_samples(folder: Path) -> dict[str, Tensor]:
    """``x``, ``y``, ``x_eval``, ``y_eval``."""
    return read_tensors(folder / "work" / "samples.safetensors", _AGAIN)


def write_starts(folder: Path, epoch: int, starts: list[State]) -> None:
    """Store the starts of an epoch."""
    tensors = {name: value.cpu().contiguous() for name, value in stack(starts).params.items()}
    write_atomically(_starts_file(folder, epoch), safetensors.torch.save(tensors))


def read_starts(folder: Path, epoch: int) -> list[State] | None:
    """The starts of an epoch, or None where it has not begun."""
    file = _starts_file(folder, epoch)
    if not file.exists():
        return None
    stacked = State(read_tensors(file, _AGAIN))
    return [stacked.rows(row) for row in range(len(stacked))]


def latest_epoch(folder: Path) -> int:
    """The epoch whose starts are stored; 0 where there is none."""
    found = [int(file.stem.removeprefix("starts-")) for file in (folder / "work").glob("starts-*.safetensors")]
    return max(found, default=0)


def forget_starts(folder: Path, before: int) -> None:
    """Delete the starts of earlier epochs."""
    for epoch in range(1, before):
        _starts_file(folder, epoch).unlink(missing_ok=True)


def write_tree(folder: Path, tree: Tree) -> None:
    """Store a finished tree."""
    write_atomically(_tree_file(folder, tree.epoch, tree.start), _as_csv([tree]))


def read_trees(folder: Path) -> dict[tuple[int, int], Tree]:
    """All finished trees by (epoch, start): those of ``runs.csv`` and those of the epoch under way.

    Raises:
        DataError: a file is damaged.
    """
    trees: dict[tuple[int, int], Tree] = {}
    for file in [folder / "runs.csv", *sorted((folder / "trees").glob("*.csv"))]:
        if file.exists():
            trees.update(_from_csv(file))
    return trees


def best_accuracy(folder: Path, epoch: int, start: int) -> float | None:
    """Accuracy of the best order in a tree that is finished, None where it is not."""
    file = _tree_file(folder, epoch, start)
    return max(tree.accuracy.max().item() for tree in _from_csv(file).values()) if file.exists() else None


def merge_trees(folder: Path, trees: Iterable[Tree]) -> None:
    """Write all rows into ``runs.csv``, sorted; the files of single trees go."""
    write_atomically(folder / "runs.csv", _as_csv(sorted(trees, key=lambda tree: (tree.epoch, tree.start))))
    for file in (folder / "trees").glob("*.csv"):
        file.unlink()


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """``ordering.json``."""
    write_json(folder / "ordering.json", summary)


def read_summary(folder: Path) -> dict[str, Any]:
    """``ordering.json``, empty where there is none."""
    file = folder / "ordering.json"
    return read_json(file, "delete it, and run the search again") if file.exists() else {}


def _starts_file(folder: Path, epoch: int) -> Path:
    return folder / "work" / f"starts-{epoch:04d}.safetensors"


def _tree_file(folder: Path, epoch: int, start: int) -> Path:
    return folder / "trees" / f"epoch-{epoch:04d}-start-{start:04d}.csv"


def _as_csv(trees: Iterable[Tree]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for tree in trees:
        rows = zip(tree.orders.tolist(), tree.loss.tolist(), tree.accuracy.tolist(), strict=True)
        for order, loss, accuracy in rows:
            writer.writerow([tree.epoch, tree.start, "-".join(map(str, order)), f"{loss:.9g}", f"{accuracy:.9g}"])
    return text.getvalue().encode()


def _from_csv(file: Path) -> dict[tuple[int, int], Tree]:
    rows: dict[tuple[int, int], list[tuple[list[int], float, float]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                order = [int(batch) for batch in row["permutation"].split("-")]
                key = (int(row["epoch"]), int(row["start"]))
                rows.setdefault(key, []).append((order, float(row["loss"]), float(row["accuracy"])))
        return {key: _tree(*key, found) for key, found in rows.items()}
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, OSError, csv.Error) as error:
        raise DataError(f"{file} is damaged ({first_line(error)}): delete it to train its trees again") from None


def _tree(epoch: int, start: int, found: list[tuple[list[int], float, float]]) -> Tree:
    return Tree(
        epoch,
        start,
        torch.tensor([order for order, _, _ in found], dtype=torch.int64),
        torch.tensor([loss for _, loss, _ in found], dtype=torch.float64),
        torch.tensor([accuracy for _, _, accuracy in found], dtype=torch.float64),
    )
