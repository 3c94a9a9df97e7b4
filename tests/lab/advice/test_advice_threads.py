"""Sums of many numbers differ in their last bits with the CPU threads: a tournament's do not hang on --jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lessonplan.lab import runners
from lessonplan.lab.advice import pace, trial
from lessonplan.lab.advice.advising import advise
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.executor import InProcess
from lessonplan.lab.plan_file import plan_from
from lessonplan.network.threads import cpu_threads
from lessonplan.train.run_folder import stored_threads

pytestmark = pytest.mark.usefixtures("no_pages")


class Here(InProcess):
    """Takes the place of other processes, and keeps what threads they were to have."""

    asked: list[int] = []  # noqa: RUF012

    def __init__(self, processes: int, threads: int, log: Path, gpus: list[str]) -> None:
        self.asked.append(threads)

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_runs_have_one_each_unless_their_plan_says_otherwise_however_many_jobs(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    fit = pace.fit
    monkeypatch.setattr(pace, "fit", lambda *a, **k: measured.append(k["threads"]) or fit(*a, **k))
    monkeypatch.setattr(runners, "LocalProcesses", Here)
    monkeypatch.setattr(Here, "asked", [])
    plans = {"stuck": {"settings": {"lr": 1e-9}}, "own": {"settings": {"lr": 1e-8, "threads": 2}}}
    for jobs in (1, 2):
        with cpu_threads(2):
            advise(out=tmp_path / str(jobs), **{**tiny, "threads": None, "plans": plans, "jobs": jobs})
            assert torch.get_num_threads() == 2
        runs = [file.parent for file in (tmp_path / str(jobs)).rglob("trial.json")]
        found = {run.name.partition("-")[0]: stored_threads(run) for run in runs if run.name != "model"}
        assert found == {"plain": 1, "stuck": 1, "own": 2}
    assert measured == 2 * [1, 2]  # the time of a step is that of the runs' steps; stuck takes what plain takes
    assert Here.asked == [1]


def test_a_run_that_was_begun_keeps_its_threads(
    tmp_path: Path, blobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = plan_from({"name": "plain", "model": "fcnet-4", "budget": "4 steps"}, "plain")

    def made(threads: int) -> trial.Trial:
        return trial.Trial(entry, 0, tmp_path, Labelled(blobs, {"test_fraction": 0.0}), threads)

    with monkeypatch.context() as killed:
        killed.setattr(trial.Trial, "tidy", lambda own: None)
        made(2).do()
    (tmp_path / trial.OUTCOME).rename(tmp_path / f".{trial.OUTCOME}.2103.tmp")
    made(2).do()  # the run is finished; what a killed process left half written goes
    assert not list(tmp_path.glob(".*.tmp"))
    (tmp_path / trial.OUTCOME).unlink()

    def again(*arguments: Any, threads: int, **options: Any) -> None:
        raise RuntimeError(f"trains with {threads}, as {torch.get_num_threads()} do")

    monkeypatch.setattr(trial, "fit", again)
    with pytest.raises(RuntimeError, match="trains with 2, as 2 do"):
        made(1).do()
