"""Tournaments from end to end: decisions, budgets, going on, what is left out, what is refused."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import lessonplan as lp
from lessonplan.errors import ConfigError, DataError, RunFailed
from lessonplan.files import disk_error
from lessonplan.lab.advice import allowance, measuring, trial
from lessonplan.lab.advice.advising import advise
from lessonplan.lab.advice.evidence import weigh
from lessonplan.lab.advice.looks import share_of_look

Tiny = dict[str, Any]
Decisions = Callable[[Path], dict[str, Any]]
pytestmark = pytest.mark.usefixtures("no_pages")
STUCK = {"settings": {"lr": 1e-9}}


def record_of(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "advice.json").read_text())
    return found


def trials(root: Path) -> dict[str, dict[str, Any]]:
    return {f.parent.name: json.loads(f.read_text()) for f in sorted((root / "runs").glob("*/trial.json"))}


def test_a_plan_that_does_not_learn_is_worse_and_leaves_and_plain_is_named(tmp_path: Path, tiny: Tiny) -> None:
    found = advise(out=tmp_path, **{**tiny, "plans": {"stuck": STUCK}, "budget": "12k cost"})
    record = record_of(tmp_path)
    assert record["standing"]["stuck"]["decided"]["verdict"] == "worse"
    assert record["running"] == []
    assert record["looks"][-1]["left"] == {"stuck": "worse than plain training"}
    assert sum(outcome["cost"] for outcome in trials(tmp_path).values()) < 10_000  # nothing is left to decide
    assert (found.kind, found.plan.name) == ("plain", "plain")
    assert found.verdict.startswith("Nothing beats plain training here: of 1 other plans stuck came closest")
    assert "Not worth trying here: stuck, -" in found.verdict
    assert [row["name"] for row in found.table] == ["plain", "stuck"]


def test_what_is_stored_is_what_the_trials_found(tmp_path: Path, tiny: Tiny) -> None:
    """The standing, again from the files of the trials by a formula of its own."""
    advise(out=tmp_path, **tiny)
    record, found = record_of(tmp_path), trials(tmp_path)
    by_plan: dict[str, dict[int, dict[str, Any]]] = {}
    for name, outcome in found.items():
        stem, _, number = name.rpartition("-round")
        by_plan.setdefault(stem.rsplit("-", 1)[0], {})[int(number)] = outcome
    for name, about in record["standing"].items():
        shared = sorted(set(by_plan[name]) & set(by_plan["plain"]))[: about["rounds"]]
        table = np.full((len(shared), 120), np.nan)
        for row, number in enumerate(shared):
            ours, plain = by_plan[name][number], by_plan["plain"][number]
            assert ours["samples"] == plain["samples"]
            assert len(ours["samples"]) == 24  # a fifth of 120, both classes alike
            table[row, ours["samples"]] = np.subtract(ours["right"], plain["right"])
        evidence = weigh(table)
        assert about["mean"] == pytest.approx(float(evidence.mean))
        low, high = evidence.interval(1 - about["level"])
        assert about["interval"] == pytest.approx([max(float(low), -1), min(float(high), 1)])
        assert 1 - about["level"] <= 0.05 * share_of_look(2)
    assert not list((tmp_path / "runs").glob("*/weights.safetensors"))
    assert not list((tmp_path / "runs").glob("*/checkpoints"))


def test_all_plans_of_a_round_see_the_same_samples_and_rounds_differ(tmp_path: Path, tiny: Tiny) -> None:
    advise(out=tmp_path, **tiny)
    by_round: dict[str, set[tuple[int, ...]]] = {}
    for name, outcome in trials(tmp_path).items():
        by_round.setdefault(name.rpartition("-")[2], set()).add(tuple(outcome["samples"]))
    assert all(len(seen) == 1 for seen in by_round.values())
    assert len({next(iter(seen)) for seen in by_round.values()}) == len(by_round)


def test_the_cost_stays_within_the_budget_and_near_it(tmp_path: Path, tiny: Tiny) -> None:
    advise(out=tmp_path, **tiny)
    spent = sum(outcome["cost"] for outcome in trials(tmp_path).values())
    final = json.loads((tmp_path / "model" / "result.json").read_text())["cost"]
    assert 0.9 * 5000 <= spent + final <= 5000


@pytest.mark.slow
def test_what_is_named_trains_longer_than_a_round_within_the_budget(tmp_path: Path, tiny: Tiny) -> None:
    """Unless it is said how long each run is; a plan with a budget of its own keeps it."""
    asked = {**tiny, "each": None, "budget": "200k cost"}
    found = advise(out=tmp_path / "free", **asked)
    record, run = found.record, json.loads((tmp_path / "free" / "model" / "result.json").read_text())
    per_round = float(record.plans["plain"]["content"]["budget"].split()[0])
    times = record.final["stretch"]
    assert times > 1.5
    assert run["cost"] == pytest.approx(times * per_round * 120 / 96, rel=0.05)  # 120 labelled, 96 in a round
    assert times * per_round * 120 / 96 <= 0.15 * 200_000 * 1.01
    spent = run["cost"] + sum(outcome["cost"] for outcome in trials(tmp_path / "free").values())
    assert spent <= 200_000
    assert f"{times:.2g} times as long" in found.verdict
    assert "whether plans rank alike in longer training they do not say" in found.verdict
    fixed = advise(out=tmp_path / "fixed", **tiny)
    assert fixed.record.final["stretch"] == 1
    assert "as long" not in fixed.verdict


def test_more_budget_goes_on_and_the_same_costs_nothing(
    tmp_path: Path, tiny: Tiny, decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    advise(out=tmp_path, **tiny)
    first, before = record_of(tmp_path), trials(tmp_path)
    monkeypatch.setattr(trial, "fit", None)
    again = advise(out=tmp_path, **tiny)
    assert again.verdict
    assert record_of(tmp_path) == first
    monkeypatch.undo()
    advise(out=tmp_path, **{**tiny, "budget": "12k cost"})
    later, after = record_of(tmp_path), trials(tmp_path)
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before  # nothing is done twice
    assert later["looks"][: len(first["looks"])] == first["looks"]
    assert later["verdict"]["rounds"] > first["verdict"]["rounds"]


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [2, 14])
def test_stopped_and_called_again_it_decides_the_same(
    stop_at: int, tmp_path: Path, tiny: Tiny, decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    advise(out=tmp_path / "whole", **tiny)
    calls = 0
    fit = trial.fit

    def stops(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt
        return fit(*args, **kwargs)

    monkeypatch.setattr(trial, "fit", stops)
    with pytest.raises(KeyboardInterrupt):
        advise(out=tmp_path / "stopped", **tiny)
    advise(out=tmp_path / "stopped", **tiny)
    assert decisions(tmp_path / "stopped") == decisions(tmp_path / "whole")
    for name in ("model/weights.safetensors", "plan.yaml"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_classifier_is_of_all_labelled_samples_and_the_plan_file_makes_it_again(
    tmp_path: Path, tiny: Tiny, blobs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    found = advise(out=tmp_path, **tiny)
    config = yaml.safe_load((tmp_path / "model" / "config.yaml").read_text())
    assert config["data"]["sizes"] == {"train": 120, "val": 0, "test": 0}
    assert found.plan.budget == "300 cost"  # 240 on 96 samples
    classifier = lp.load(tmp_path / "model")
    assert classifier.predict(blobs[0][:3]).shape == (3, 2)
    plan = found.plan
    data = lp.data.load(blobs, test_fraction=0)
    again = lp.fit(
        plan.model or "", data, plan.method.fresh_plan(), plan.budget or "", **plan.method.settings, threads=1
    )
    for ours, theirs in zip(classifier.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_test_data_are_read_once_for_the_named_plan_and_plain(tmp_path: Path, tiny: Tiny) -> None:
    found = advise(out=tmp_path, **tiny, test_fraction=0.5)
    record = record_of(tmp_path)
    expected = ["plain"] if found.plan.name == "plain" else [found.plan.name, "plain"]
    assert sorted(record["readings"]) == sorted(expected)
    test = record["final"]["test"]
    stored = json.loads((tmp_path / "model" / "result.json").read_text())["test"]["accuracy"]
    assert test["model"] == pytest.approx(stored)
    assert test["samples"] == 60
    assert "On 60 test samples, not looked at before" in found.verdict
    # No test sample is among those that are judged.
    tested = set(json.loads((tmp_path / "model" / "trial.json").read_text())["samples"])
    judged = {s for outcome in trials(tmp_path).values() for s in outcome["samples"]}
    assert not tested & judged
    trained = yaml.safe_load((tmp_path / "model" / "config.yaml").read_text())
    assert trained["data"]["sizes"] == {"train": 60, "val": 0, "test": 60}


@pytest.mark.slow
def test_a_validation_part_of_the_data_is_what_rounds_are_judged_on(tmp_path: Path, tiny: Tiny) -> None:
    advise(out=tmp_path, **tiny, val_per_class=10)
    found = trials(tmp_path)
    assert len({tuple(outcome["samples"]) for outcome in found.values()}) == 1
    right = {tuple(outcome["right"]) for name, outcome in found.items() if name.startswith("plain")}
    assert len(right) > 1  # seeds differ
    assert record_of(tmp_path)["sizes"]["own_validation"]


@pytest.mark.slow
def test_plans_that_cannot_run_are_left_out_with_the_reason(tmp_path: Path, tiny: Tiny) -> None:
    plans = {
        **tiny["plans"],
        "cut": "cutmix",
        "waits": {"settings": {"keep": "best"}},
        "far": {"settings": {"lr": 1e30}},
    }
    found = advise(out=tmp_path, **{**tiny, "plans": plans, "budget": "9k cost"})
    record = record_of(tmp_path)
    assert "image" in record["plans"]["cut"]["left_out"]
    assert "NaN or infinite" in record["plans"]["far"]["left_out"]
    assert "Left out: cut (" in found.verdict
    assert record["plans"]["waits"].get("left_out") is None
    assert record["plans"]["waits"]["decides"] is True
    [config] = [yaml.safe_load(f.read_text()) for f in (tmp_path / "runs").glob("waits-*-round0/config.yaml")]
    # What it decides by is not what it is judged by: 24 are held back, and of the other 96 a fifth.
    assert config["data"]["sizes"] == {"train": 76, "val": 20, "test": 24}
    assert config["data"]["cut"]
    assert record["plans"]["plain"]["decides"] is False


def test_a_full_disk_ends_a_part_and_no_plan_leaves_for_it(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = trial.Trial.do
    reasons = {"mixup": disk_error(tmp_path / "x", OSError(errno.ENOSPC, "full")), "stuck": MemoryError()}

    def refused(one: trial.Trial) -> None:
        if one.entry.name in reasons:
            raise reasons[one.entry.name]
        do(one)

    monkeypatch.setattr(trial.Trial, "do", refused)
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"mixup, round 1: the disk is full.* give the same command again"):
            advise(out=tmp_path, **tiny)
    del reasons["mixup"]
    with pytest.raises(RunFailed, match=r"stuck, round 1: MemoryError.* the plan counts as failed"):
        advise(out=tmp_path, **tiny)
    advise(out=tmp_path, **tiny)
    plans = record_of(tmp_path)["plans"]
    assert {name: "left_out" in plan for name, plan in plans.items()} == {
        "plain": False,
        "mixup": False,
        "stuck": True,  # in two commands
    }


@pytest.mark.parametrize("error", [disk_error(Path("x"), OSError(errno.ENOSPC, "full")), MemoryError()])
def test_what_keeps_a_plan_from_being_tried_leaves_no_plan_out(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    measure = measuring.measure

    def refused(entry: Any, *arguments: Any) -> Any:
        if entry.name == "mixup":
            raise error
        return measure(entry, *arguments)

    monkeypatch.setattr(measuring, "measure", refused)
    with pytest.raises(RunFailed, match=r"mixup could not be tried: .* give the same command again"):
        advise(out=tmp_path, **tiny)
    monkeypatch.setattr(measuring, "measure", measure)
    advise(out=tmp_path, **tiny)
    assert not any("left_out" in plan for plan in record_of(tmp_path)["plans"].values())


def test_a_last_training_that_fails_is_no_mistake_of_the_users(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = trial.Trial.do

    def refused(one: trial.Trial) -> None:
        if one.round is None:
            raise disk_error(one.folder, OSError(errno.ENOSPC, "full"))
        do(one)

    monkeypatch.setattr(trial.Trial, "do", refused)
    with pytest.raises(RunFailed, match=r"on all labelled samples failed .*the disk is full"):
        advise(out=tmp_path, **tiny)


@pytest.mark.slow
def test_a_better_plan_is_found(tmp_path: Path, tiny: Tiny) -> None:
    """Plain training at a rate that learns nothing, against one that learns."""
    plans = {"plain": {"settings": {"lr": 1e-9}}, "learns": {"settings": {"lr": 0.05}}, "mixup": "mixup:p=0.1"}
    found = advise(out=tmp_path, **{**tiny, "plans": plans, "budget": "10k cost"})
    assert found.kind == "better"
    assert "beats plain training" in found.verdict
    better = [name for name, s in record_of(tmp_path)["standing"].items() if s["decided"]]
    assert found.plan.name in better


def test_time_too_short_says_what_is_possible(tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(
        ConfigError, match=r"800 cost is too short: .* \(240 cost\) takes 240 cost, .* give at least"
    ):
        advise(out=tmp_path, **{**tiny, "budget": "800 cost"})
    short = {**tiny, "budget": None, "time": "1s", "each": "400k samples"}
    with pytest.raises(ConfigError, match=r"1\.0 s is too short"):
        advise(out=tmp_path / "timed", **short)


@pytest.mark.slow
def test_a_small_budget_takes_a_smaller_field(tmp_path: Path, tiny: Tiny) -> None:
    many = {f"lr{i}": {"settings": {"lr": 0.01 * i}} for i in range(1, 12)}
    advise(out=tmp_path, **{**tiny, "plans": many, "budget": "8k cost"})
    out = [n for n, about in record_of(tmp_path)["plans"].items() if about.get("left_out")]
    assert out
    assert out == list(many)[-len(out) :]
    assert "does not suffice" in record_of(tmp_path)["plans"]["lr11"]["left_out"]


def test_data_that_changed_and_other_plans_are_refused(
    tmp_path: Path, tiny: Tiny, blobs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    advise(out=tmp_path, **{**tiny, "budget": "5k cost", "plans": "mixup"})
    other = (blobs[0] + 1, blobs[1])
    with pytest.raises(ConfigError, match="changed since the first part"):
        advise(out=tmp_path, **{**tiny, "plans": "mixup", "data": other})
    with pytest.raises(
        ConfigError, match=r"tournament of another configuration \(plans\.mixup\.mix: mixup -> mixup:alpha"
    ):
        advise(out=tmp_path, **{**tiny, "plans": {"mixup": "mixup:alpha=0.5"}})


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            {"data": (torch.rand(5, 2), torch.tensor([0, 0, 0, 0, 1]))},
            DataError,
            "class '1' has 1 labelled sample: at least 3",
        ),
        (
            {"data": (torch.rand(6, 2), torch.tensor([0, 0, 0, 0, 1, 1]))},
            DataError,
            "class '1' has 2 labelled samples: at least 3 of every class are needed, 2 to train on",
        ),
        ({"data": (torch.rand(40, 2), torch.arange(40) % 2), "per_class": 2}, DataError, "has 2 labelled samples"),
        (
            {"data": (torch.rand(5, 2), torch.zeros(5, dtype=torch.int64))},
            DataError,
            "all samples are of one class",
        ),
        ({"budget": None}, ConfigError, "either time .30min. or budget"),
        ({"time": "5min"}, ConfigError, "either time .30min. or budget"),
        ({"budget": "5 epochs"}, ConfigError, "no measure of a whole tournament"),
        ({"budget": None, "time": "soon"}, ConfigError, "time 'soon' cannot be read"),
        ({"plans": "none"}, ConfigError, "only plain training is there"),
        ({"plans": {"plain": "none"}}, ConfigError, "only plain training is there"),
        ({"plans": "mixpu"}, ConfigError, "did you mean 'mixup'"),
        ({"plans": "cutmix"}, ConfigError, "no plan but plain training can run on these data"),
        ({"val_fraction": 1.5}, ConfigError, "val_fraction=1.5"),
        ({"level": 2.0}, ConfigError, "level=2.0"),
        ({"label_noise": 0.1}, ConfigError, "label_noise is for experiments"),
        ({"jobs": 0}, ConfigError, "jobs=0"),
    ],
)
def test_what_is_refused(change: Tiny, error: type[Exception], said: str, tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(error, match=said):
        advise(out=tmp_path / "out", **{**tiny, **change})


def test_a_full_disk_is_told_before_training(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from lessonplan.lab.advice import preparing

    monkeypatch.setattr(preparing.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10 * 2**20})())
    with pytest.raises(ConfigError, match="10 MB of free disk space, and 50 MB may be needed"):
        advise(out=tmp_path, **tiny)
    assert not trials(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("jobs_take", [10.0, 20.0])
def test_it_keeps_to_its_time(
    jobs_take: float, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that runs while trials do, and on no other occasion."""
    now = 0.0
    monkeypatch.setattr(allowance.time, "monotonic", lambda: now)
    do = trial.Trial.do

    def takes(self: trial.Trial) -> None:
        nonlocal now
        do(self)
        seconds = jobs_take * (1.25 if self.round is None else 1.0)
        now += seconds
        outcome = {**self.outcome(), "seconds": seconds}
        (self.folder / trial.OUTCOME).write_text(json.dumps(outcome))

    monkeypatch.setattr(trial.Trial, "do", takes)
    advise(out=tmp_path, **{**tiny, "budget": None, "time": "420s", "plans": "mixup"}, test_fraction=0.5)
    assert 0.88 * 420 <= now <= 420  # one trial, and the seconds that are kept for pages
    assert record_of(tmp_path)["seconds"] == now
    first = len(trials(tmp_path))
    advise(out=tmp_path, **{**tiny, "budget": None, "time": "10min", "plans": "mixup"}, test_fraction=0.5)
    assert 0.8 * 600 <= now <= 600  # the classifier of the first part may be the second's: its time is left over
    assert len(trials(tmp_path)) > first
