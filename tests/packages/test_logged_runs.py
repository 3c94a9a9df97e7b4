"""Runs in the real tools: numbers, configuration, picture, result, ending; one record after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.packages.tools import seen_in

import lessonplan as lp
from lessonplan import cli
from lessonplan.errors import RunFailed
from lessonplan.train import Callback, fit
from lessonplan.train.loggers import flat_numbers, loggers
from lessonplan.train.records import records
from lessonplan.train.trainer import NotFinite

TOOLS = [
    pytest.param("tensorboard", marks=[pytest.mark.packages("tensorboard"), pytest.mark.slow]),
    pytest.param("wandb", marks=pytest.mark.packages("wandb")),
    pytest.param("mlflow", marks=pytest.mark.packages("mlflow")),
]
FAILED = {"tensorboard": "failed", "wandb": "1", "mlflow": "FAILED"}
FINISHED = {"tensorboard": "finished", "wandb": "0", "mlflow": "FINISHED"}


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _use(f"sqlite:///{tmp_path}/mlflow.db", monkeypatch)
    monkeypatch.chdir(tmp_path)


def _use(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    try:
        import mlflow
    except ImportError:  # the tests of other tools
        return
    mlflow.set_tracking_uri(None)  # what a test before has left


def _fit(folder: Path, *callbacks: Callback, **more: Any):
    data = lp.data.load("digits", per_class=4, val_per_class=4)
    given = {"out": folder, "callbacks": callbacks, "threads": 1, "batch_size": 20, "checkpoint_every": "1 steps"}
    return fit("fcnet-16", data, "sum:k=2", "3ep", **{**given, **more})


def _records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, trainer):
        if trainer.counters.steps == self.step:
            raise KeyboardInterrupt


def _stopped_and_resumed(first: str, folder: Path, then: str | None = None):
    """A run that is recorded by one text, and gone on with by another."""
    picture = folder.parent / "mixed.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)
    with pytest.raises(KeyboardInterrupt):
        _fit(folder, *loggers(first, folder, picture), StopAt(5))
    return _fit(folder, *loggers(then or first, folder, picture))


def _check(name: str, folder: Path, run: Any) -> None:
    seen = seen_in(name, folder)
    wanted: dict[str, list[tuple[int, float]]] = {}
    for record in _records(folder):
        for key, value in flat_numbers(record):
            if not key.startswith("system/"):
                wanted.setdefault(key, []).append((record["step"], value))
    assert len(wanted) > 15
    for key, values in wanted.items():
        assert seen.numbers[key] == values, key
    assert seen.numbers["result/test/accuracy"] == [(6, run.result["test"]["accuracy"])]
    assert {key: seen.config[key] for key in ("model", "plan/mix/name", "plan/mix/k", "seed")} == {
        "model": "fcnet-16", "plan/mix/name": "sum", "plan/mix/k": "2", "seed": "0",
    }  # fmt: skip
    assert "data/fingerprint" in seen.config
    assert seen.pictures == {"mixed samples"}
    assert seen.ending == FINISHED[name]


@pytest.mark.parametrize("name", TOOLS)
def test_a_resumed_run_is_one_record(name: str, tmp_path: Path) -> None:
    run = _stopped_and_resumed(name, tmp_path / "run")
    _check(name, tmp_path / "run", run)


@pytest.mark.packages("tensorboard")
def test_a_mix_inside_of_the_network_is_recorded_with_a_picture(tmp_path: Path) -> None:
    """Its layers were looked for in another network."""
    mix = "cascade:k=2,pairing=permute,layers=input/hidden"
    options = "--data digits --per-class 4 --model fcnet-8 --budget 5steps --log tensorboard"
    with pytest.raises(SystemExit) as stop:
        cli.main([*f"train {options} --out {tmp_path / 'run'}".split(), "--mix", mix])
    assert not stop.value.code
    assert seen_in("tensorboard", tmp_path / "run").pictures == {"mixed samples"}


@pytest.mark.packages("mlflow")
def test_mlflows_store_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _use(f"file://{tmp_path}/mlruns", monkeypatch)
    with pytest.raises(RunFailed, match=r"^mlflow cannot begin a record: The filesystem tracking backend"):
        _fit(tmp_path / "refused", *loggers("mlflow", tmp_path / "refused"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = _stopped_and_resumed("mlflow", tmp_path / "run")
    _check("mlflow", tmp_path / "run", run)


@pytest.mark.parametrize("name", TOOLS)
def test_a_failed_run_is_marked(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotFinite):
        _fit(tmp_path / "run", *loggers(name, tmp_path / "run"), lr=1e30)
    assert seen_in(name, tmp_path / "run").ending == FAILED[name]


@pytest.mark.packages("wandb")
def test_project_and_group_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "elsewhere")
    folder = tmp_path / "run"
    _stopped_and_resumed("wandb:project=cloth,group=first", folder, "wandb:project=another")
    assert seen_in("wandb", folder).place[0] == "cloth"  # gone on with where it was begun
    _fit(tmp_path / "two", *loggers("wandb:group=first", tmp_path / "two"))
    assert seen_in("wandb", tmp_path / "two").place == ("elsewhere", "first")


@pytest.mark.packages("mlflow")
def test_an_experiment_of_mlflow(tmp_path: Path) -> None:
    import mlflow

    folder = tmp_path / "run"
    for record in records("mlflow:experiment=cloth", folder):
        record.reach()
    _stopped_and_resumed("mlflow:experiment=cloth", folder, "mlflow:experiment=never made")
    assert seen_in("mlflow", folder).place == ("cloth",)
    mlflow.set_experiment("another")
    try:
        run = _stopped_and_resumed("mlflow:experiment=cloth", tmp_path / "two", "mlflow")
        assert mlflow.active_run() is None
    finally:
        mlflow.set_experiment("Default")
    assert seen_in("mlflow", tmp_path / "two").place == ("cloth",)
    _check("mlflow", tmp_path / "two", run)


@pytest.mark.packages("wandb")
def test_a_run_of_ones_own_in_wandb_goes_on(tmp_path: Path) -> None:
    import wandb

    with wandb.init(dir=str(tmp_path / "mine"), project="mine") as mine:
        mine.log({"before": 1})
        _fit(tmp_path / "run", *loggers("wandb", tmp_path / "run"))
        assert wandb.run is mine
        mine.log({"after": 2})
    assert seen_in("wandb", tmp_path / "mine").numbers == {"before": [(0, 1.0)], "after": [(1, 2.0)]}
    assert seen_in("wandb", tmp_path / "run").ending == "0"


@pytest.mark.packages("mlflow")
def test_a_run_of_ones_own_in_mlflow_goes_on(tmp_path: Path) -> None:
    import mlflow

    class Own(Callback):
        def on_epoch_end(self, trainer):
            mlflow.start_run(nested=True)  # and left open: it is not the record's to write into, nor to end

    with mlflow.start_run() as mine:
        run = _fit(tmp_path / "run", *loggers("mlflow", tmp_path / "run"), Own())
        for _ in range(3):
            assert mlflow.active_run().info.run_id != mine.info.run_id
            mlflow.end_run()
        mlflow.end_run()  # the record's, which stands below them
        assert mlflow.active_run().info.run_id == mine.info.run_id
    seen = seen_in("mlflow", tmp_path / "run")
    assert seen.numbers["result/test/accuracy"] == [(6, run.result["test"]["accuracy"])]
    (child,) = [r for r in mlflow.search_runs(output_format="list") if r.info.run_name == "run"]
    assert child.data.tags["mlflow.parentRunId"] == mine.info.run_id
    assert mlflow.get_run(mine.info.run_id).data.metrics == {}


@pytest.mark.packages("mlflow")
def test_names_that_mlflow_refuses(tmp_path: Path) -> None:
    (record,) = records("mlflow", tmp_path / "run")
    config = {"methods/sum:k=4,pairing=permute": "a", "methods/sum:k=4;pairing=permute": "b", "long/" * 100: "c"}
    record.open({**config, **{f"more/{i}": "1" for i in range(120)}}, None, 0)
    record.numbers({"mixup|cutmix/mean": 0.5}, 0)
    record.close("finished")
    seen = seen_in("mlflow", tmp_path / "run")
    assert seen.config["methods/sum-k-4-pairing-permute"] == "a"
    assert seen.config["methods/sum-k-4-pairing-permute-2"] == "b"
    assert len(seen.config) == 123
    assert seen.numbers == {"mixup-cutmix/mean": [(0, 0.5)]}


@pytest.mark.packages("mlflow")
def test_a_record_that_is_gone_is_said_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        _fit(folder, *loggers("mlflow", folder), StopAt(3))
    _use(f"sqlite:///{tmp_path}/other.db", monkeypatch)
    with pytest.raises(
        RunFailed, match=r"^mlflow cannot go on with the record that .*loggers\.json names .*not found"
    ):
        _fit(folder, *loggers("mlflow", folder))
    (folder / "loggers.json").unlink()
    _fit(folder, *loggers("mlflow", folder))
    assert seen_in("mlflow", folder).ending == "FINISHED"


@pytest.mark.packages("wandb")
def test_no_key_for_wandb_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "nobody"))
    wandb.teardown()  # or it remembers that it was offline
    try:
        with pytest.raises(RunFailed, match=r"^wandb cannot be reached: No API key"):
            lp.compare("erm", out=tmp_path / "c", per_class=4, log="wandb", jobs=1)
    finally:
        wandb.teardown()
    assert not (tmp_path / "c").exists()
