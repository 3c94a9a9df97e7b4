"""Searches from end to end: trials, going on, test samples, plan files, what is refused."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import lessonplan as lp
from lessonplan.data.resplit import labelled
from lessonplan.errors import ConfigError, DataError, RunFailed
from lessonplan.files import disk_error
from lessonplan.lab.plan_file import read_plan_file
from lessonplan.lab.tuning import suggest as suggesting
from lessonplan.lab.tuning import trial, tune
from lessonplan.lab.tuning.space import Dimension
from lessonplan.lab.tuning.suggest import importances, suggest
from lessonplan.report.tune import write_tune

Tiny = dict[str, Any]
pytestmark = pytest.mark.usefixtures("no_pages")
SPACE = [Dimension("lr", 1e-4, 1.0, log=True), Dimension("k", choices=(2, 4, 8))]


def trials(root: Path) -> list[dict[str, Any]]:
    """All but the seconds."""
    found = json.loads((root / "tune.json").read_text())["trials"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


@pytest.fixture(params=["random", "tpe"])
def sampler(request: pytest.FixtureRequest) -> str:
    if request.param == "tpe":
        pytest.importorskip("optuna")
    return str(request.param)


def test_a_score_is_what_such_a_run_has_and_the_plan_file_makes_it_again(tmp_path: Path, tiny: Tiny) -> None:
    found = tune(**tiny, out=tmp_path, sampler="random", seed=3)
    best = max(trials(tmp_path), key=lambda row: row["score"])
    assert found.score == best["score"] == max(row["score"] for row in found.table)
    file = read_plan_file(tmp_path / "best.yaml")
    assert file.content() == found.best.content()
    assert file.method.settings["lr"] == best["values"]["lr"]
    assert file.method.plan.mix is not None
    assert file.method.plan.mix.k == best["values"]["mix.k"]
    cut = trial.split_of(trial.Labelled(tiny["data"], {}, 0.2, 3), lp.data.load(tiny["data"], seed=3), 0)
    run = lp.fit(
        file.model or "",
        cut,
        file.method.fresh_plan(),
        file.budget or "",
        seed=3,
        threads=1,
        **file.method.settings,
    )
    assert run.result["val"]["accuracy"] == best["score"]
    assert read_plan_file(tmp_path / "given.yaml").content()["mix"] == "sum:k=2"


def test_no_run_sees_a_test_sample(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    fit = trial.fit
    monkeypatch.setattr(trial, "fit", lambda model, data, *a, **k: seen.append(data) or fit(model, data, *a, **k))
    tune(**{**tiny, "trials": 2}, out=tmp_path, splits=3, sampler="random", seed=1)
    whole = lp.data.load(tiny["data"], seed=1)
    assert whole.test is not None
    used = [torch.cat([data.train.rows, data.val.rows]).sort().values.tolist() for data in seen]
    assert all(data.test is None for data in seen)
    assert all(rows == labelled(whole).tolist() for rows in used)
    assert not set(used[0]) & set(whole.test.rows.tolist())
    splits = {tuple(data.val.rows.tolist()) for data in seen}
    assert len(splits) == 3  # the same ones for both trials
    results = [json.loads(file.read_text()) for file in tmp_path.glob("runs/*/result.json")]
    assert len(results) == 6
    assert not any("test" in result for result in results)


def test_stopped_and_called_again_it_tries_the_same(
    tmp_path: Path, tiny: Tiny, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every fourth run or so a stop; and more trials later are those of a longer search."""
    monkeypatch.setattr(suggesting, "STARTUP", 3)  # so that what was found has a say
    asked = {**tiny, "sampler": sampler, "at_once": 3, "trials": 9}
    tune(**asked, out=tmp_path / "whole")
    fit, calls = trial.fit, 0

    def stops(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 4 == 2:
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(trial, "fit", stops)
    stopped = 0
    for wanted in (5, 5, 9, 9, 9, 9, 9):
        try:
            tune(**{**asked, "trials": wanted}, out=tmp_path / "stopped")
        except KeyboardInterrupt:
            stopped += 1
    assert stopped >= 3
    assert trials(tmp_path / "stopped") == trials(tmp_path / "whole")
    assert (tmp_path / "stopped/best.yaml").read_text() == (tmp_path / "whole/best.yaml").read_text()


def test_the_same_call_trains_nothing_and_another_one_is_refused(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(**{**tiny, "trials": 2}, out=tmp_path, sampler="random")
    before = trials(tmp_path)
    monkeypatch.setattr(trial, "fit", None)
    tune(**{**tiny, "trials": 2}, out=tmp_path, sampler="random")
    assert trials(tmp_path) == before
    with pytest.raises(ConfigError, match="search of another configuration"):
        tune(**{**tiny, "budget": "480 cost"}, out=tmp_path, sampler="random")


def test_equal_values_are_trained_once(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tune(**{**tiny, "search": "mix.k=2|4", "trials": 8}, out=tmp_path, sampler="random")
    assert len(list((tmp_path / "runs").iterdir())) == len({row["values"]["mix.k"] for row in found.table}) == 2
    assert len({(row["values"]["mix.k"], row["score"]) for row in found.table}) == 2


def test_a_trial_that_cannot_be_trained_is_told_and_the_search_goes_on(tmp_path: Path, tiny: Tiny) -> None:
    found = tune(**{**tiny, "search": "lr=0.1|1e30", "trials": 6}, out=tmp_path, sampler="random", seed=1)
    failed = [row for row in found.table if row["values"]["lr"] == 1e30]
    assert failed
    assert all("NaN or infinite" in row["error"] and row["score"] is None for row in failed)
    assert found.best.method.settings["lr"] == 0.1
    page = write_tune(tmp_path).read_text()
    assert "could not be trained" in page
    with pytest.raises(ConfigError, match=r"none of 2 trials could be trained; the first one: .*NaN"):
        tune(**{**tiny, "search": "lr=1e30|2e30", "trials": 2}, out=tmp_path / "none", sampler="random")


def test_a_full_disk_ends_the_search_and_the_same_command_goes_on_as_if_nothing_had_been(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(**tiny, out=tmp_path / "whole", sampler="random")
    do = trial.TuneTrial.do

    def full(job: trial.TuneTrial) -> None:
        if job.number >= 2:
            raise disk_error(job.folder / "weights", OSError(errno.ENOSPC, "full"))
        do(job)

    monkeypatch.setattr(trial.TuneTrial, "do", full)
    for _ in range(2):  # as often as it is given
        with pytest.raises(RunFailed, match=r"trial 3 \(lr=.*\): the disk is full.* give the same command again"):
            tune(**tiny, out=tmp_path / "disturbed", sampler="random")
    monkeypatch.setattr(trial.TuneTrial, "do", do)
    tune(**tiny, out=tmp_path / "disturbed", sampler="random")
    assert trials(tmp_path / "disturbed") == trials(tmp_path / "whole")


def test_a_trial_that_runs_out_of_memory_in_two_commands_has_failed(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = trial.TuneTrial.do

    def too_large(job: trial.TuneTrial) -> None:
        if job.number == 1:
            raise MemoryError
        do(job)

    monkeypatch.setattr(trial.TuneTrial, "do", too_large)
    with pytest.raises(
        RunFailed, match=r"trial 2 .*MemoryError.*if this happens again, the trial counts as failed"
    ):
        tune(**tiny, out=tmp_path, sampler="random")
    found = tune(**tiny, out=tmp_path, sampler="random")
    assert [row["number"] for row in found.table if row["score"] is None] == [2]
    assert "MemoryError" in found.table[1]["error"]
    assert not any("suspected" in row for row in found.table)


def test_losses_are_searched_for_the_lowest(tmp_path: Path, tiny: Tiny) -> None:
    settings = {**tiny["settings"], "watch": "loss"}
    found = tune(**{**tiny, "settings": settings}, out=tmp_path, sampler="random")
    losses = [json.loads(f.read_text())["val"]["loss"] for f in sorted(tmp_path.glob("runs/*/result.json"))]
    assert found.score == -min(losses)
    assert f"validation loss of {min(losses):.4f}" in write_tune(tmp_path).read_text()


def test_optuna_learns_from_what_was_found_and_is_a_function_of_it() -> None:
    """On a curve with its top at lr=.02 and k=4, later suggestions lie nearer to it than random ones."""
    pytest.importorskip("optuna")

    def score(values: Any) -> float:
        return -abs(math.log10(values["lr"] / 0.02)) - float(values["k"] != 4)

    def search(sampler: str) -> list[float]:
        done: list[Any] = []
        for number in range(40):
            asked = {"number": number, "seed": 0, "sampler": sampler}
            values = suggest(SPACE, done, [], **asked)
            assert suggest(SPACE, done, [], **asked) == values
            done.append((values, score(values)))
        return [found for _, found in done[20:]]

    assert sum(search("tpe")) / 20 > sum(search("random")) / 20 + 0.5


def test_the_share_of_a_number_that_does_nothing_is_small() -> None:
    pytest.importorskip("optuna")
    done = []
    for number in range(60):
        values = suggest(SPACE, [], [], number=number, seed=0, sampler="random")
        done.append((values, -abs(math.log10(values["lr"] / 0.02))))
    shares = importances(SPACE, done)
    assert shares is not None
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["lr"] > 0.9
    assert importances(SPACE, done[:3]) is None


def test_the_study_can_be_read_by_optuna(tmp_path: Path, tiny: Tiny) -> None:
    optuna = pytest.importorskip("optuna")
    found = tune(**tiny, out=tmp_path, sampler="tpe")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
    )
    study = optuna.load_study(study_name="lessonplan", storage=storage)
    assert [t.params for t in study.trials] == [row["values"] for row in found.table]
    assert study.best_value == found.score


def test_without_optuna_trials_are_drawn_at_random(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suggesting, "optuna", lambda: None)
    found = tune(**{**tiny, "trials": 2}, out=tmp_path)
    assert found.record.identity["sampler"] == "random"
    assert "drawn at random" in capsys.readouterr().err
    assert not (tmp_path / "optuna.journal").exists()
    with pytest.raises(ConfigError, match=r"lessonplan\[tune\]"):
        tune(**tiny, out=tmp_path / "other", sampler="tpe")


@pytest.mark.slow
def test_the_plan_is_taken_by_compare_and_the_score_called_optimistic(tmp_path: Path, tiny: Tiny) -> None:
    tune(**tiny, out=tmp_path / "tuned", splits=3, sampler="random")
    record = json.loads((tmp_path / "tuned/tune.json").read_text())
    assert record["optimism"] is not None
    page = write_tune(tmp_path / "tuned").read_text()
    assert "That score is optimistic: it was picked from 6" in page
    files = [read_plan_file(tmp_path / "tuned" / f"{name}.yaml") for name in ("given", "best")]
    methods = [file.method for file in files]
    results = lp.compare(
        methods, tiny["data"], out=tmp_path / "compared", model="fcnet-4", budget="240 cost", seeds=2, jobs=1
    )
    assert [method["name"] for method in results["methods"]] == ["plan", "plan-tuned"]
    config = yaml.safe_load(next((tmp_path / "compared/runs").glob("plan-tuned*/config.yaml")).read_text())
    assert config["settings"]["lr"] == files[1].method.settings["lr"]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"trials": 0}, ConfigError, "trials=0"),
        ({"splits": 0}, ConfigError, "splits=0"),
        ({"at_once": 0}, ConfigError, "at_once=0"),
        ({"jobs": 0}, ConfigError, "jobs=0"),
        ({"val_fraction": 0.0}, ConfigError, "judged on validation samples"),
        ({"search": "mix.k=2|500"}, ConfigError, "a trial with mix.k=500 cannot be trained: k=500 is larger"),
        ({"search": "mix.k=0|2"}, ConfigError, "k of at least 1"),
        ({"search": "batch_size=8|5000"}, ConfigError, "batch_size=5000 is larger than"),
        ({"sampler": "tpee"}, ConfigError, "did you mean 'tpe'"),
        ({"budget": "much"}, ConfigError, "much"),
        ({"plan": "nothing.yaml"}, ConfigError, "nothing.yaml does not exist"),
        ({"per_class": 2}, DataError, "has 2 labelled samples: at least 3"),
    ],
)
def test_what_is_refused(change: Tiny, error: type[Exception], said: str, tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(error, match=said):
        tune(**{**tiny, "sampler": "random", **change}, out=tmp_path / "out")
    assert not (tmp_path / "out" / "runs").exists()
