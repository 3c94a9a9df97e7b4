"""Loggers hear every epoch's record; the packages behind them are stood in for."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from lessonplan.errors import ConfigError
from lessonplan.train import fit
from lessonplan.train.loggers import loggers


def fake_wandb(heard: list) -> ModuleType:
    module = ModuleType("wandb")
    run = SimpleNamespace(
        log=lambda numbers, step: heard.append((step, numbers)), finish=lambda: heard.append(("end", {}))
    )
    module.init = lambda dir, config: heard.append(("start", config)) or run
    return module


def fake_mlflow(heard: list) -> ModuleType:
    module = ModuleType("mlflow")
    module.start_run = lambda: None
    module.log_params = lambda params: heard.append(("start", params))
    module.log_metrics = lambda numbers, step: heard.append((step, numbers))
    module.end_run = lambda: heard.append(("end", {}))
    return module


def fake_tensorboard(heard: list) -> ModuleType:
    module = ModuleType("torch.utils.tensorboard")

    class SummaryWriter:
        def __init__(self, where, purge_step):
            heard.append(("start", {"where": where, "purge_step": purge_step}))

        def add_scalar(self, name, value, step):
            if heard[-1][0] != step:
                heard.append((step, {}))
            heard[-1][1][name] = value

        def close(self):
            heard.append(("end", {}))

    module.SummaryWriter = SummaryWriter
    return module


@pytest.mark.parametrize(
    ("name", "module", "make"),
    [
        ("wandb", "wandb", fake_wandb),
        ("mlflow", "mlflow", fake_mlflow),
        ("tensorboard", "torch.utils.tensorboard", fake_tensorboard),
    ],
)
def test_a_logger_hears_what_metrics_jsonl_says(name, module, make, monkeypatch, tmp_path):
    heard: list = []
    monkeypatch.setitem(sys.modules, module, make(heard))
    fit("fcnet-16", "digits", "sum:k=2", "2ep", out=tmp_path, callbacks=loggers(name, tmp_path), threads=1)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert heard[0][0] == "start"
    assert heard[-1][0] == "end"
    assert [step for step, _ in heard[1:-1]] == [record["step"] for record in records]
    assert [numbers["train/loss"] for _, numbers in heard[1:-1]] == [r["train"]["loss"] for r in records]
    assert heard[1][1]["mix/k"] == 2


def test_missing_packages_and_wrong_names(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[wandb\]'"):
        loggers("wandb")
    with pytest.raises(ConfigError, match="did you mean 'mlflow'"):
        loggers("mlfow")
    assert loggers("") == []
