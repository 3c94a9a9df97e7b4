"""A run's records: the same numbers in each, configuration, result, ending, one record after a resume."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.train import Callback, fit
from lessonplan.train.loggers import Logger, flat_numbers, loggers
from lessonplan.train.records import Record
from lessonplan.train.trainer import NotFinite


class Memory(Record):
    """A record that can be looked at."""

    name, package = "memory", "json"

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder)
        self.heard: list[tuple[str, Any]] = []

    def open(self, config, known, first):
        self.heard.append(("open", (dict(config), known)))
        return known or "number 1"

    def numbers(self, numbers, step):
        self.heard.append(("numbers", (step, dict(numbers))))

    def picture(self, title, file, step):
        self.heard.append(("picture", file))

    def table(self, title, columns, rows):
        self.heard.append(("table", rows))

    def close(self, ending):
        self.heard.append(("close", ending))

    def of(self, kind: str) -> list[Any]:
        return [what for said, what in self.heard if said == kind]


def _records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _fit(folder: Path | None, *callbacks: Callback, budget: str = "3ep", **more: Any):
    data = lp.data.load("digits", per_class=4, val_per_class=4)
    given = {"out": folder, "callbacks": callbacks, "threads": 1, "batch_size": 20, "checkpoint_every": "1 steps"}
    return fit("fcnet-16", data, "sum:k=2", budget, **{**given, **more})


def test_a_record_has_configuration_epochs_result_and_ending(tmp_path):
    record, picture = Memory(tmp_path), tmp_path / "mixed.png"
    run = _fit(tmp_path, Logger(record, picture))
    ((config, known),) = record.of("open")
    assert known is None
    assert config["model"] == "fcnet-16"
    assert config["plan/mix/name"] == "sum"
    assert config["plan/mix/k"] == "2"
    assert config["seed"] == "0"
    assert "data/fingerprint" in config
    assert "settings/batch_size" in config
    *epochs, (step, result) = record.of("numbers")
    assert epochs == [(r["step"], dict(flat_numbers(r))) for r in _records(tmp_path)]
    assert result["result/test/accuracy"] == run.result["test"]["accuracy"]
    assert step == run.result["steps"]
    assert record.of("close") == ["finished"]
    assert record.of("picture") == [picture]


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, trainer):
        if trainer.counters.steps == self.step:
            raise KeyboardInterrupt


def test_a_resumed_run_goes_on_in_the_same_record(tmp_path):
    first, second = Memory(tmp_path), Memory(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path, Logger(first), StopAt(5))  # two updates an epoch
    assert first.of("close") == ["stopped"]
    _fit(tmp_path, Logger(second))
    assert [known for _, known in second.of("open")] == ["number 1"]
    steps = [step for step, numbers in first.of("numbers") + second.of("numbers") if "epoch" in numbers]
    assert steps == [r["step"] for r in _records(tmp_path)] == [2, 4, 6]
    assert second.of("close") == ["finished"]


@pytest.mark.parametrize("folder", [True, False])
def test_a_run_that_fails_is_marked(folder, tmp_path):
    record = Memory(tmp_path if folder else None)
    with pytest.raises(NotFinite):
        _fit(tmp_path if folder else None, Logger(record), lr=1e30)
    assert record.of("close") == ["failed"]


def test_a_head_without_training_is_recorded_too(tmp_path):
    from lessonplan.models import build_model

    data = lp.data.load("digits", per_class=4, val_per_class=4)
    model = build_model("tiny", shape=data.shape, num_classes=10, seed=0)
    record = Memory(tmp_path)
    fit(model, data, None, "1ep", out=tmp_path, callbacks=[Logger(record)], threads=1, tune="head", fit_head="ncm")
    assert record.of("close") == ["finished"]
    assert "result/test/accuracy" in record.of("numbers")[-1][1]


def test_missing_packages_and_wrong_names(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[wandb\]'"):
        loggers("wandb")
    with pytest.raises(ConfigError, match="did you mean 'mlflow'"):
        loggers("mlfow")
    assert loggers("") == []


# -- the real packages -----------------------------------------------------------------------------------


def _tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    util = pytest.importorskip("tensorboard.util.tensor_util")
    events = reading.EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    found = {}
    for name in events.Tags()["tensors"]:
        values = [(event.step, util.make_ndarray(event.tensor_proto)) for event in events.Tensors(name)]
        if values[0][1].dtype.kind == "f":
            found[name] = [(step, float(value)) for step, value in values]
    return found


def _wandb(folder: Path) -> dict[str, list[tuple[int, float]]]:
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda f: f.stat().st_mtime):
        for data in _chunks(file.read_bytes()):
            record = pb.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") != "history":
                continue
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            for name, value in items.items():
                if isinstance(value, (int, float)) and not name.startswith("_"):
                    found.setdefault(name, []).append((record.history.step.num, float(value)))
    return found


def _chunks(content: bytes) -> list[bytes]:
    """The records of a file in LevelDB's log format: blocks of 32 KiB, pieces with checksum, length and kind."""
    at, pieces, records = 7, b"", []
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        pieces += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            records.append(pieces)
            pieces = b""
    return records


def _mlflow(folder: Path) -> dict[str, list[tuple[int, float]]]:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


REAL = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


@pytest.fixture
def _quiet_places(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.chdir(tmp_path)


def _skip_without(name: str) -> None:
    pytest.importorskip(name, reason=f"pip install 'lessonplan[{name}]'")
    if name == "mlflow":
        import mlflow

        mlflow.set_tracking_uri(None)


@pytest.mark.slow
@pytest.mark.usefixtures("_quiet_places")
@pytest.mark.parametrize("name", REAL)
def test_the_same_numbers_are_in_the_real_tools_after_a_resume(name, tmp_path):
    _skip_without(name)
    folder = tmp_path / "run"
    picture = tmp_path / "mixed.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)
    with pytest.raises(KeyboardInterrupt):
        _fit(folder, *loggers(name, folder, picture), StopAt(5))
    run = _fit(folder, *loggers(name, folder, picture))
    found = REAL[name](folder)
    wanted: dict[str, list[tuple[int, float]]] = {}
    for record in _records(folder):
        for key, value in flat_numbers(record):
            if not key.startswith("system/"):
                wanted.setdefault(key, []).append((record["step"], value))
    assert len(wanted) > 15
    for key, values in wanted.items():
        assert found[key] == values, key
    assert found["result/test/accuracy"] == [(6, run.result["test"]["accuracy"])]
    if name == "mlflow":
        import mlflow

        client = mlflow.MlflowClient()
        (stored,) = client.search_runs(["0"])
        assert stored.info.status == "FINISHED"
        assert stored.data.params["plan/mix/k"] == "2"
        assert [f.path for f in client.list_artifacts(stored.info.run_id)] == ["mixed samples"]
    if name == "wandb":
        numbers = {file.name.rpartition("-")[2] for file in (folder / "wandb").glob("offline-run-*")}
        assert len(numbers) == 1  # one id


@pytest.mark.slow
@pytest.mark.usefixtures("_quiet_places")
def test_a_failed_run_is_marked_in_mlflow(tmp_path):
    _skip_without("mlflow")
    import mlflow

    with pytest.raises(NotFinite):
        _fit(tmp_path / "run", *loggers("mlflow", tmp_path / "run"), lr=1e30)
    assert [run.info.status for run in mlflow.MlflowClient().search_runs(["0"])] == ["FAILED"]
