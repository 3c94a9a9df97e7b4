"""A run keeps the CPU threads that it began with; results do not depend on how many runs are done at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import lessonplan as lp
from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.lab import compare, executor
from lessonplan.lab.ordering import search_orderings
from lessonplan.network.threads import cpu_threads
from lessonplan.order.perfect import Engine
from lessonplan.train import Callback, Trainer, fit


@pytest.fixture
def at_work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads PyTorch has at every update, while four are what the process came with."""
    seen: list[int] = []
    update = Trainer._update

    def noted(self: Trainer, batch: Any) -> None:
        seen.append(torch.get_num_threads())
        update(self, batch)

    monkeypatch.setattr(Trainer, "_update", noted)
    return seen


class _Stop(Callback):
    def on_batch_end(self, trainer: Trainer) -> None:
        if trainer.counters.steps == 2:
            raise RuntimeError("stopped by the test")


def _begun(data: Any, out: Path, **options: Any) -> None:
    with pytest.raises(RuntimeError, match="stopped by the test"):
        fit("fcnet-8", data, budget="4 steps", out=out, callbacks=[_Stop()], checkpoint_every="1 steps", **options)


def _stored(out: Path) -> Any:
    return yaml.safe_load((out / "config.yaml").read_text())["threads"]


def test_a_resumed_run_keeps_its_threads(data, tmp_path, at_work) -> None:
    with cpu_threads(3):
        _begun(data, tmp_path)
    assert _stored(tmp_path) == 3
    with cpu_threads(2):
        fit("fcnet-8", data, budget="4 steps", out=tmp_path)
        assert torch.get_num_threads() == 2
    assert set(at_work) == {3}


def test_other_threads_are_not_heeded_and_it_is_said(data, tmp_path, at_work) -> None:
    _begun(data, tmp_path, threads=2)
    with pytest.warns(
        LessonplanWarning, match=r"began with 2 CPU threads and keeps them.*threads=1 is not heeded"
    ):
        fit("fcnet-8", data, budget="4 steps", out=tmp_path, threads=1)
    with pytest.warns(LessonplanWarning, match="goes on to 6 steps"):  # a longer budget, in its folder
        fit("fcnet-8", data, budget="6 steps", out=tmp_path, threads=2)
    assert set(at_work) == {2}
    assert _stored(tmp_path) == 2


def test_a_run_from_before_they_were_kept(data, tmp_path, at_work) -> None:
    """It goes on with what is given, and keeps that."""
    _begun(data, tmp_path, threads=2)
    file = tmp_path / "config.yaml"
    config = yaml.safe_load(file.read_text())
    del config["threads"]
    file.write_text(yaml.safe_dump(config))
    fit("fcnet-8", data, budget="4 steps", out=tmp_path, threads=1)
    assert at_work == [2, 2, 1, 1, 1]  # the last checkpoint was behind the first update
    assert _stored(tmp_path) == 1


@pytest.mark.parametrize("threads", [0, -1, "many", True, 1.5, [1]])
def test_a_number_of_threads_that_cannot_be(data, tmp_path, threads: Any) -> None:
    fit("fcnet-8", data, budget="1 steps", out=tmp_path)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "threads": threads}))
    with pytest.raises(DataError, match="no number of threads"):
        fit("fcnet-8", data, budget="1 steps", out=tmp_path)


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("report.write_comparison", "report.write_run", "lab.comparison.write_examples"):
        monkeypatch.setattr(f"lessonplan.{name}", lambda *_: None)


SMALL = {"model": "fcnet-8", "seeds": 1, "budget": "2 steps", "per_class": 6}


def test_runs_of_a_comparison_have_one_thread_each(tmp_path, at_work, no_pages) -> None:
    """However many the process has, and in this process or another."""
    with cpu_threads(4):
        compare("erm", out=tmp_path, jobs=1, **SMALL)
        compare("erm", out=tmp_path / "two", jobs=1, threads=2, **SMALL)
        compare("erm", out=tmp_path / "set", jobs=1, settings={"threads": 3}, **SMALL)
    assert at_work == [1, 1, 2, 2, 3, 3]
    for out, threads in ((tmp_path, 1), (tmp_path / "two", 2), (tmp_path / "set", 3)):
        [run] = (out / "runs").iterdir()
        assert _stored(run) == threads


@pytest.mark.parametrize(("jobs", "seeds"), [(None, 3), (2, 1), (1, 3), (7, 3)])
def test_processes_have_the_same_threads_whatever_waits(
    tmp_path, monkeypatch, no_pages, jobs: int | None, seeds: int
) -> None:
    """The last waiting run of a killed comparison works as the first did."""
    asked: list[int] = []
    monkeypatch.setattr(executor.LocalProcesses, "run", lambda self, jobs, report: asked.append(self.threads))
    monkeypatch.setattr(
        executor.InProcess, "run", lambda self, jobs, report: asked.extend(j.threads for j in jobs)
    )
    compare("erm", out=tmp_path, jobs=jobs, **{**SMALL, "seeds": seeds})
    assert set(asked) == {1}


def test_the_evaluation_of_a_run_has_its_threads(tmp_path, no_pages, monkeypatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("lessonplan.lab.job.Job._evaluate", lambda *_: seen.append(torch.get_num_threads()))
    with cpu_threads(4):
        compare("erm", out=tmp_path, jobs=1, evaluation=_evaluation(), **SMALL)
    assert seen == [1]


def _evaluation() -> Any:
    from lessonplan.evaluation import Evaluation

    return Evaluation()


def test_all_of_a_search_has_one_thread(tmp_path, monkeypatch) -> None:
    """Trees in this process, and the survivors that are trained again between epochs."""
    seen: list[int] = []
    train = Engine.train

    def noted(self: Engine, *args: Any, **kwargs: Any) -> Any:
        seen.append(torch.get_num_threads())
        return train(self, *args, **kwargs)

    monkeypatch.setattr(Engine, "train", noted)
    monkeypatch.setattr("lessonplan.lab.ordering.search.write_ordering", lambda folder: None)
    options = {"per_class": 2, "batch_size": 2, "classes": ("0", "1"), "evaluate": 16, "survivors": 2}
    with cpu_threads(4):
        search_orderings("digits", out=tmp_path, epochs=2, model="fcnet-4", jobs=1, **options)
        assert torch.get_num_threads() == 4
    assert len(seen) >= 3
    assert set(seen) == {1}


def test_evaluate_takes_the_threads_of_the_run(run, said, monkeypatch) -> None:
    seen: list[int] = []
    import lessonplan.lab.evaluation as lab

    evaluate = lab.evaluate

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(torch.get_num_threads())
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(lab, "evaluate", noted)
    with cpu_threads(3):
        assert said("evaluate", run, "--out", run / "a")[0] == 0
        assert said("evaluate", run, "--out", run / "b", "--threads", 2)[0] == 0
    assert seen == [1, 2]


@pytest.mark.parametrize("plan", [None, "mix:cascade:k=4,patience=none", "order:multi-attempt:k=3"])
def test_weights_do_not_depend_on_workers(tmp_path: Path, plan: str | None) -> None:
    """Of pictures that are read from files as they are needed, here or ahead in two processes."""
    for number in range(24):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 6), 9 * number, np.uint8)).save(folder / f"{number}.png")
    found = []
    for workers in (0, 2):
        data = lp.data.load(tmp_path, workers=workers, memory_limit=1, test_fraction=0)
        assert data.train.reads_ahead is (workers > 0)
        run = fit("fcnet-8", data, plan, "6 steps", threads=1, batch_size=4)
        found.append(run.result["weights"])
    assert found[0] == found[1]
