"""What is the same run: functions in plans, settings that do not count, runs of the format before."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path

import pytest
import torch

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.train.identity import RUN_FORMAT
from lessonplan.train.run_folder import read_config

STORED = Path(__file__).with_name("format-1")
PLANS = {
    "mix": "cascade:k=4,patience=1",
    "select": "select:accuracy >> epochwise >> topk:0.5 >> batchwise",
    "order": "order:multi-attempt:k=3 + mixup|cutmix",
}


def _mean(x, y):
    return x.flatten(1).mean(1)


def _power(x, y, p):
    return x.flatten(1).mean(1) ** p


PAIRS = {
    "scores": [
        lp.Plan(order=lp.order.ByScore(k=3, score=lambda x, y: x.flatten(1).mean(1))),
        lp.Plan(order=lp.order.ByScore(k=3, score=lambda x, y: -x.flatten(1).mean(1))),
    ],
    "partial scores": [
        lp.Plan(order=lp.order.ByScore(k=3, score=functools.partial(_power, p=1))),
        lp.Plan(order=lp.order.ByScore(k=3, score=functools.partial(_power, p=-1))),
    ],
    "coefficients": [
        lp.Plan(mix=lp.mix.SumAugment(k=2, coefficients=lambda k, n, g: torch.full((k, n), 1 / k))),
        lp.Plan(
            mix=lp.mix.SumAugment(k=2, coefficients=lambda k, n, g: torch.tensor([[0.9], [0.1]]).expand(k, n))
        ),
    ],
}


@pytest.mark.parametrize("what", PAIRS)
def test_another_function_in_a_plan_is_another_run(quick, tmp_path, what) -> None:
    """Before, ``fit`` returned the first plan's finished result for the second."""
    one, other = PAIRS[what]
    assert one.config() != other.config()
    assert one.config() == one.copy().config()
    first = quick(one, out=tmp_path / "run")
    assert quick(one, out=tmp_path / "run").result == first.result
    with pytest.raises(ConfigError, match="another configuration"):
        quick(other, out=tmp_path / "run")


def test_another_function_is_another_method(tmp_path: Path) -> None:
    one, other = PAIRS["scores"]
    options = {"data": "digits", "model": "fcnet-8", "seeds": 1, "budget": "6 steps", "per_class": 6, "jobs": 1}
    lp.compare({"scored": one}, out=tmp_path / "c", **options)
    lp.compare({"scored": other}, out=tmp_path / "c", **options)
    assert len(list((tmp_path / "c" / "runs").iterdir())) == 2


def test_settings_that_decide_nothing_are_no_part_of_a_comparison(tmp_path: Path) -> None:
    """Another ``checkpoint_every`` goes on in the same folder and trains nothing anew."""
    options = {"data": "digits", "model": "fcnet-8", "seeds": 1, "budget": "6 steps", "per_class": 6, "jobs": 1}
    methods = {"erm": lp.Plan()}
    for settings in ({}, {"checkpoint_every": "2 steps"}, {"threads": 1}):
        lp.compare(methods, out=tmp_path / "c", settings=settings, **options)
        lp.compare({"erm": {"settings": settings}}, out=tmp_path / "c", **options)
    assert len(list((tmp_path / "c" / "runs").iterdir())) == 1
    with pytest.raises(ConfigError, match="lr"):
        lp.compare(methods, out=tmp_path / "c", settings={"lr": 0.3}, **options)


def _measured_then(run: lp.Run) -> lp.Run:
    """The run without what the code of format 1 did not measure, which its lines lack."""

    def then(value):
        later = ("balanced_accuracy", "macro_f1")
        return {k: then(v) for k, v in value.items() if k not in later} if isinstance(value, dict) else value

    return dataclasses.replace(run, history=[then(record) for record in run.history])


@pytest.mark.parametrize("name", PLANS)
def test_runs_of_format_1_go_on(quick, same_run, tmp_path, name) -> None:
    """Stopped halfway by the code before run formats were written into runs."""
    shutil.copytree(STORED / name, tmp_path / "run")
    assert "format" not in (read_config(tmp_path / "run") or {})
    went_on = quick(PLANS[name], out=tmp_path / "run")
    anew = quick(PLANS[name], out=tmp_path / "anew")
    same_run(_measured_then(went_on), _measured_then(anew))
    assert (read_config(tmp_path / "anew") or {})["format"] == RUN_FORMAT


def test_a_look_ahead_of_format_1_is_not_taken_up(quick, tmp_path) -> None:
    """Its winners' updates were made twice, which a budget in cost pays for."""
    import yaml

    plan = lp.Plan(order=lp.order.LossDelta(candidates=3))
    quick(plan, out=tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    del config["format"]
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="format: None -> 2"):
        quick(plan, out=tmp_path / "run")


def test_a_loss_of_ones_own_of_format_1(quick, tmp_path) -> None:
    import torch.nn.functional as F
    import yaml

    quick(out=tmp_path / "run", loss=F.cross_entropy)
    file = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    del config["format"]
    assert config["loss"] == "torch.nn.functional:cross_entropy"
    config["loss"] = "cross_entropy"  # as format 1 wrote it
    file.write_text(yaml.safe_dump(config))
    quick(out=tmp_path / "run", loss=F.cross_entropy)
