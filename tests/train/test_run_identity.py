"""What is the same run: functions in plans, settings that do not count, runs of the format before."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.lab import runs
from lessonplan.plan import Plan
from lessonplan.settings import Settings
from lessonplan.supply.epoch import HANDLED
from lessonplan.train import identity
from lessonplan.train.budget import Budget
from lessonplan.train.identity import RUN_FORMAT, run_config
from lessonplan.train.run_folder import read_config
from test_same_weights import calculates_as_first

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


@pytest.mark.slow
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


def strip(record: dict[str, Any]) -> dict[str, Any]:
    """Without what no two runs share."""
    return {k: v for k, v in record.items() if k not in ("seconds", "environment", "system")}


def _measured_then(run: lp.Run) -> lp.Run:
    """The run without what the code of format 1 did not measure, which its lines lack."""

    def then(value):
        later = (
            "balanced_accuracy",
            "macro_f1",
            "candidates_each",
            "kept_each",
            "overflow",
            "overflow_per_update",
        )
        beliefs = {f"{name}_q{q}" for name in ("confidence", "margin") for q in (10, 50, 90)}
        gone = {*later, *beliefs, "choices"}
        return {k: then(v) for k, v in value.items() if k not in gone} if isinstance(value, dict) else value

    return dataclasses.replace(run, records=[then(record) for record in run.history], result=then(run.result))


def _assert_nearly(ours, theirs) -> None:
    """Counts and names equal, measures to what another processor's arithmetic may change."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            _assert_nearly(ours[key], theirs[key])
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", PLANS)
def test_runs_of_format_1_go_on(quick, same_run, tmp_path, name) -> None:
    """Stopped halfway by the code before run formats were written into runs, perhaps on another processor."""
    shutil.copytree(STORED / name, tmp_path / "run")
    assert "format" not in (read_config(tmp_path / "run") or {})
    went_on = quick(PLANS[name], out=tmp_path / "run")
    anew = quick(PLANS[name], out=tmp_path / "anew")
    if calculates_as_first():
        same_run(_measured_then(went_on), _measured_then(anew))
    for a, b in zip(went_on.model.parameters(), anew.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    for a, b in zip(_measured_then(went_on).history, _measured_then(anew).history, strict=True):
        _assert_nearly(strip(a), strip(b))
    assert (read_config(tmp_path / "anew") or {})["format"] == RUN_FORMAT


def as_of_format_2(run: Path) -> None:
    """Write a run's configuration as the code before wrote it."""
    file = run / "config.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "format": 2}))


@pytest.mark.parametrize(
    ("plan", "schedule", "goes_on"),
    [
        ("mixup|cutmix", "stagnation", True),
        ("gradual:k=2", "cosine", True),
        ("cascade:k=2,patience=none", "stagnation", True),
        ("cascade:k=2,patience=none,lr_at_switch=keep", "stagnation", False),
        ("gradual:k=2", "stagnation", False),
        ("(gradual:k=2) >> cutout", "stagnation", False),
        ("sum:k=2,until=50%", "stagnation", False),
    ],
)
def test_runs_of_format_2_go_on_where_they_are_the_same(
    quick, same_run, tmp_path, plan, schedule, goes_on
) -> None:
    """Also with a longer budget; a stagnation rule that heard of no K trained otherwise."""
    first = quick(plan, "6 steps", out=tmp_path / "run", schedule=schedule)
    as_of_format_2(tmp_path / "run")
    if goes_on:
        assert quick(plan, "6 steps", out=tmp_path / "run", schedule=schedule).result == first.result
        with pytest.warns(lp.errors.LessonplanWarning, match="goes on to"):
            longer = quick(plan, "9 steps", out=tmp_path / "run", schedule=schedule)
        assert longer.result["steps"] == 9
    else:
        with pytest.raises(ConfigError, match="format: 2 -> 5"):
            quick(plan, "6 steps", out=tmp_path / "run", schedule=schedule)


def test_a_comparisons_runs_of_format_2_are_taken_up(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        "lessonplan.report.write_run", lambda folder: None
    )  # pages take their time, and are tested elsewhere
    monkeypatch.setattr("lessonplan.report.write_comparison", lambda folder: None)
    options = {"data": "digits", "model": "fcnet-8", "seeds": 1, "budget": "6 steps", "per_class": 6, "jobs": 1}
    options["settings"] = {"schedule": "stagnation"}
    methods = {"erm": "none", "gradual": "gradual:k=2"}
    with monkeypatch.context() as before:
        before.setattr(runs, "RUN_FORMAT", 2)
        before.setattr(identity, "RUN_FORMAT", 2)
        lp.compare(methods, out=tmp_path / "c", **options)
    with pytest.warns(LessonplanWarning, match="not in this table, 1 of them .gradual-seed0-"):
        lp.compare(methods, out=tmp_path / "c", **options)
    found = sorted(folder.name.partition("-")[0] for folder in (tmp_path / "c" / "runs").iterdir())
    assert found == ["erm", "gradual", "gradual"]


def test_runs_of_format_3_go_on(quick, tmp_path) -> None:
    first = quick("gradual:k=2", "6 steps", out=tmp_path / "run", schedule="stagnation")
    file = tmp_path / "run" / "config.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "format": 3}))
    assert quick("gradual:k=2", "6 steps", out=tmp_path / "run", schedule="stagnation").result == first.result


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"settings": {}}, True),
        ({"settings": {"tune": "head"}, "weights": {"weights": "a.pt"}}, True),
        ({"settings": {}, "weights": {"weights": "a.pt"}}, False),  # sees all of a picture now
        ({"settings": {"tune": "last:1"}, "weights": {"weights": "a.pt"}}, False),
        (
            {"settings": {}, "weights": {"weights": "a.pt"}, "input": {"preprocessing": {}}},
            True,
        ),  # what it sees is told
    ],
)
def test_a_comparisons_runs_of_format_3_are_taken_up_where_they_are_the_same(given, same) -> None:
    now = {"format": RUN_FORMAT, "plan": Plan().config(), **given}
    assert ({**now, "format": 3} in identity.older_formats(now)) == same
    assert ({**now, "format": 2} in identity.older_formats(now)) == same


@pytest.mark.parametrize(
    ("plan", "settings", "same"),
    [
        ("mixup", {}, True),
        ("mixup", {"label_smoothing": 0.1}, True),
        ("select:infobatch", {"label_smoothing": 0.1}, True),
        ("select:infobatch + mixup", {}, True),
        ("select:infobatch + mixup", {"label_smoothing": 0.1}, False),
        ("sum:k=2,labels=union", {}, True),
        ("select:infobatch + sum:k=2,labels=union,p=0.5", {}, False),
        ("sum:k=2", {"loss": "sum-bce"}, True),
        ("sum:k=2,p=0.5", {"loss": "sum-bce"}, False),
        ("sum:k=2|sum:k=3", {"loss": "sum-bce"}, False),
        ("mixup|cutmix", {"schedule": "stagnation"}, True),
        ("mixup|cutmix|cutout", {"schedule": "stagnation"}, False),
        ("mixup|cutmix|cutout", {}, True),
        ("mixup >> cutout", {"schedule": "stagnation"}, True),
        ("mixup >> (cutout|sum:k=3)", {"schedule": "stagnation"}, False),
        ("select:infobatch + sum:k=2", {"loss": "sum-bce"}, False),
        ("gradual:k=2", {}, True),
        ("(gradual:k=2,draw=mixed) >> cutout", {}, False),
    ],
)
def test_runs_of_format_4_are_taken_up_where_they_are_the_same(plan, settings, same) -> None:
    settings = identity.identity_settings(Settings.make(**settings))
    now = {"format": RUN_FORMAT, "plan": Plan.parse(plan).config(), "settings": settings}
    assert ({**now, "format": 4} in identity.older_formats(now)) == same
    assert ({**now, "format": 3} in identity.older_formats(now)) == same


@pytest.mark.parametrize(("augment", "again"), [("crop:1", True), ("none", False)])
def test_runs_that_ended_on_one_augmentation_are_not_taken_for_finished(quick, tmp_path, augment, again) -> None:
    data = lp.data.load("digits", per_class=4, val_fraction=0, augment=augment)
    quick("select:accuracy", "6 steps", out=tmp_path / "run", data=data)
    as_of_format_2(tmp_path / "run")
    file = tmp_path / "run" / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "stopped": HANDLED}))
    if again:
        with pytest.raises(ConfigError, match="an earlier version ended"):
            quick("select:accuracy", "6 steps", out=tmp_path / "run", data=data)
    else:
        assert quick("select:accuracy", "6 steps", out=tmp_path / "run", data=data).result["stopped"] == HANDLED


def test_a_look_ahead_of_format_1_is_not_taken_up(quick, tmp_path) -> None:
    """Its winners' updates were made twice, which a budget in cost pays for."""
    plan = lp.Plan(order=lp.order.LossDelta(candidates=3))
    quick(plan, out=tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    del config["format"]
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="format: None -> 5"):
        quick(plan, out=tmp_path / "run")


def test_a_loss_of_ones_own_of_format_1(quick, tmp_path) -> None:
    import torch.nn.functional as F

    quick(out=tmp_path / "run", loss=F.cross_entropy)
    file = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    del config["format"]
    assert config["loss"] == "torch.nn.functional:cross_entropy"
    config["loss"] = "cross_entropy"  # as format 1 wrote it
    file.write_text(yaml.safe_dump(config))
    quick(out=tmp_path / "run", loss=F.cross_entropy)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"tune": "last:1"}, True),
        ({"tune": "gradual"}, True),
        ({"layer_decay": 0.9}, True),
        ({"tune": "norm"}, False),
        ({}, False),
    ],
)
def test_runs_that_tell_stages_apart_are_no_runs_of_before(settings, named) -> None:
    """How a network is cut into stages was changed; what does not depend on it keeps its name."""
    data = lp.data.load("digits", per_class=5)
    config = run_config("tiny", data, lp.Plan(), Budget.parse("1ep"), Settings.make(**settings), 0)
    assert ("stages" in config["settings"]) is named
    assert ("stages" in identity.identity_settings(Settings.make(**settings))) is named, "of a comparison, too"
