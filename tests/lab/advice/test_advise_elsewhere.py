"""Tournaments whose trials are done by a cluster: the same decisions, and the time is planned by what it holds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from eager_ray import EagerRay
from fake_slurm import install
from lessonplan.errors import ConfigError
from lessonplan.lab import on_slurm
from lessonplan.lab.advice import allowance, measuring, trial
from lessonplan.lab.advice.advising import advise

Tiny = dict[str, Any]
Decisions = Callable[[Path], dict[str, Any]]
pytestmark = pytest.mark.usefixtures("no_pages")


@pytest.mark.slow
def test_ray_decides_as_this_process_does(
    tmp_path: Path, tiny: Tiny, decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = EagerRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    advise(out=tmp_path / "here", **tiny)
    advise(out=tmp_path / "there", **{**tiny, "jobs": None}, executor="ray:cpus=2")
    assert decisions(tmp_path / "there") == decisions(tmp_path / "here")
    record = json.loads((tmp_path / "there" / "advice.json").read_text())
    assert record["allowance"]["workers"] == 2  # four cores are alive
    assert ray.most == 2  # no trial is handed out for which there is no room yet


@pytest.mark.slow
def test_slurm_decides_as_this_process_does(
    tmp_path: Path, tiny: Tiny, decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    install(tmp_path / "commands")
    monkeypatch.setenv("PATH", f"{tmp_path / 'commands'}:{os.environ['PATH']}")
    monkeypatch.setattr(on_slurm, "_POLL_SECONDS", 0.1)
    small = {**tiny, "budget": "2500 cost"}
    advise(out=tmp_path / "here", **small)
    advise(out=tmp_path / "there", **{**small, "jobs": 2}, executor="slurm:hours=0.2")
    assert decisions(tmp_path / "there") == decisions(tmp_path / "here")
    arrays = [path.read_text() for path in (tmp_path / "commands").glob("script-*")]
    assert len(arrays) > 1  # as runs end, others are queued


def test_a_time_needs_to_know_how_many_trials_there_are_at_once(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Somewhere:
        def run(self, jobs: Iterable[Any], report: Callable[[Any, str | None], None]) -> None:
            raise AssertionError("nothing is to be trained")

    asked = {**tiny, "budget": None, "time": "10min", "jobs": None}
    with pytest.raises(ConfigError, match=r"how many runs the executor does at a time.*give jobs, or a budget"):
        advise(out=tmp_path, **asked, executor=Somewhere())


@pytest.mark.slow
def test_the_way_to_a_machine_is_part_of_the_time(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials of ten seconds that wait twenty in a queue: a tournament that asks for ten only would be late."""
    now = 0.0
    monkeypatch.setattr(allowance.time, "monotonic", lambda: now)

    class Queue:
        def run(self, jobs: Iterable[Any], report: Callable[[Any, str | None], None]) -> None:
            nonlocal now
            for job in jobs:
                job.do()
                if isinstance(job, trial.Trial):
                    outcome = {**job.outcome(), "seconds": 10.0}
                    (job.folder / trial.OUTCOME).write_text(json.dumps(outcome))
                    now += 30.0
                report(job, None)

    asked = {**tiny, "budget": None, "time": "20min", "plans": "mixup", "jobs": 1}
    advise(out=tmp_path, **asked, executor=Queue())
    assert 0.93 * 1200 <= now <= 1200


def test_plans_that_differ_by_a_learning_rate_are_measured_once(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    measure = measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda entry, *a: measured.append(entry.name) or measure(entry, *a))
    plans = {"mixup": "mixup", "slow": {"settings": {"lr": 0.01}}, "small": {"settings": {"batch_size": 4}}}
    found = advise(out=tmp_path, **{**tiny, "plans": plans, "budget": "3k cost"})
    assert measured == ["plain", "mixup", "small"]
    about = found.record.plans
    assert about["slow"]["pace"] == about["plain"]["pace"]
    assert about["small"]["pace"]["cost"] == about["plain"]["pace"]["cost"] / 2
