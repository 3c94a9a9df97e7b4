"""What stands in the records of TensorBoard, Weights & Biases and MLflow, read by the packages themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Seen:
    """A record as its tool has it.

    Attributes:
        numbers: ``(step, value)`` by name, in the order in which they were written.
        config: texts by name.
        pictures: names.
        tables: rows of texts by name.
        ending: how it ended, in the tool's word.
        place: project and group, or the experiment.
    """

    numbers: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)
    pictures: set[str] = field(default_factory=set)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    ending: str | None = None
    place: tuple[str, ...] = ()


def seen_in(name: str, folder: Path) -> Seen:
    """The one record of a run's or comparison's folder."""
    return {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}[name](folder)


def _tensorboard(folder: Path) -> Seen:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    seen = Seen(pictures=set(events.Tags()["images"]))
    for name in events.Tags()["tensors"]:
        values = [(event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(name)]
        if values[0][1].dtype.kind == "f":
            seen.numbers[name] = [(step, float(value)) for step, value in values]
            continue
        text = values[-1][1].item().decode()
        title = name.removesuffix("/text_summary")
        if title == "status":
            seen.ending = text
            continue
        rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]
        if title == "configuration":
            seen.config = dict(rows[2:])
        else:
            seen.tables[title] = rows[2:]
    return seen


def _wandb(folder: Path) -> Seen:
    """What was kept offline; a record that was gone on with has a folder for each time it was opened."""
    import wandb
    from wandb.proto import wandb_internal_pb2 as pb

    wandb.teardown()  # its other process has written everything when it has ended
    seen, numbers = Seen(), set()
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda f: f.stat().st_mtime):
        for data in _chunks(file.read_bytes()):
            record = pb.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                numbers.add(record.run.run_id)
                seen.place = (record.run.project, record.run.run_group)
                seen.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "exit":
                seen.ending = str(record.exit.exit_code)
            elif kind == "history":
                _note(seen, record.history, file.parent / "files")
    assert len(numbers) == 1, f"records {numbers}"
    return seen


def _note(seen: Seen, history: Any, files: Path) -> None:
    """One step's numbers, and what says where a picture or a table lies."""
    media: dict[str, dict[str, Any]] = {}
    for item in history.item:
        path, value = list(item.nested_key) or [item.key], json.loads(item.value_json)
        if len(path) == 2:
            media.setdefault(path[0], {})[path[1]] = value
        elif isinstance(value, (int, float)) and not path[0].startswith("_"):
            seen.numbers.setdefault(path[0], []).append((history.step.num, float(value)))
    for name, value in media.items():
        file = files / value["path"]
        if value["_type"] == "image-file":
            assert file.exists()
            seen.pictures.add(name)
        elif value["_type"] == "table-file":
            seen.tables[name] = json.loads(file.read_text())["data"]


def _chunks(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: blocks of 32 KiB, pieces with checksum, length and kind."""
    at, pieces = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        pieces += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            yield pieces
            pieces = b""


def _mlflow(folder: Path) -> Seen:
    """The run that bears the folder's name."""
    import mlflow

    client = mlflow.MlflowClient()
    experiments = {e.experiment_id: e.name for e in client.search_experiments()}
    (run,) = [r for r in client.search_runs(list(experiments)) if r.info.run_name == folder.name]
    number = run.info.run_id
    seen = Seen(config=run.data.params, ending=run.info.status, place=(experiments[run.info.experiment_id],))
    for name in run.data.metrics:
        seen.numbers[name] = [(m.step, m.value) for m in client.get_metric_history(number, name)]
    for file in client.list_artifacts(number):
        if file.path.endswith(".json"):
            columns = mlflow.artifacts.load_dict(f"runs:/{number}/{file.path}")
            seen.tables[file.path.removesuffix(".json")] = [
                list(row) for row in zip(*columns.values(), strict=True)
            ]
        else:
            below = [f.path for f in client.list_artifacts(number, file.path) if f.is_dir]
            seen.pictures |= set(below or [file.path])
    return seen
