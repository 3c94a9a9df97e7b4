"""A run's records: the same numbers in each, configuration, result, ending, one record after a resume."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import lessonplan as lp
from lessonplan.errors import ConfigError, RunFailed
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


class Refusing(Memory):
    """A record whose package refuses everything from a step on."""

    faults = (OSError,)

    def __init__(self, folder: Path | None, first: int) -> None:
        super().__init__(folder)
        self.first = first

    def open(self, config, known, first):
        if self.first < 0:
            raise OSError("no such store\nand much more")
        return super().open(config, known, first)

    def numbers(self, numbers, step):
        if step >= self.first:
            raise OSError("the line is dead")

    def close(self, ending):
        super().close(ending)
        raise OSError("the line is still dead")


@pytest.mark.parametrize(
    ("first", "said", "closed"),
    [
        (-1, "begin a record: no such store$", []),
        (4, "take the numbers of an epoch: the line is dead$", ["failed"]),
        (7, "take the result, which the run's folder has: the line is still dead$", ["finished"]),
    ],
)
def test_what_a_package_refuses_is_one_sentence(first, said, closed, tmp_path):
    record = Refusing(tmp_path, first)
    with pytest.raises(RunFailed, match=f"^memory cannot {said}"):
        _fit(tmp_path, Logger(record))
    assert record.of("close") == closed


def test_a_record_that_cannot_be_closed_hides_no_failure(tmp_path):
    with pytest.raises(NotFinite):
        _fit(tmp_path, Logger(Refusing(tmp_path, 7)), lr=1e30)
    with pytest.raises(RunFailed, match=r"go on with the record that .*loggers\.json names \(without that file"):
        _fit(tmp_path, Logger(Refusing(tmp_path, -1)), lr=1e30)


def test_missing_packages_and_wrong_names(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[wandb\]'"):
        loggers("wandb")
    with pytest.raises(ConfigError, match="did you mean 'mlflow'"):
        loggers("mlfow")
    assert loggers("") == []


def test_options_are_looked_at_before_packages(tmp_path):
    for text, said in {
        "wandb:project=a,wandb": "names wandb twice",
        "wandb:projct=a": "did you mean 'project'",
        "tensorboard:project=a": "unknown option of tensorboard 'project': there are none",
        "wandb:project=": "wandb:project= names nothing",
        "wandb:cloth": "write option=value",
    }.items():
        with pytest.raises(ConfigError, match=said):
            loggers(text, tmp_path)
