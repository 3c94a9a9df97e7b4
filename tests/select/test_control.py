"""As many samples at random: what a run kept, raw batch by raw batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import lessonplan as lp
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.select import MatchedRandom, Scored, parse_select
from lessonplan.select.control import read_record

COUNTS = ("steps", "samples", "raw_samples", "cost", "forwarded", "backpropagated", "epochs")
OPTIONS: dict[str, Any] = {"seed": 1, "batch_size": 16, "threads": 1, "lr": 0.1}


def fit(plan: str, out: Path, **changes: Any) -> lp.train.fitting.Run:
    data = lp.data.load("digits", per_class=12, val_per_class=2, augment="none")
    return lp.fit("fcnet-16", data, plan, changes.pop("budget", "9k cost"), out=out, **{**OPTIONS, **changes})


STAGES = [
    "batchwise:overflow=discard,raw_batch_size=run",
    "batchwise:overflow=discard,raw_batch_size=24",
    "batchwise",
    "batchwise:max_age=1,refresh=3",
    "batchwise:batch_size=none,raw_batch_size=run",
]


@pytest.mark.parametrize("stage", STAGES)
def test_the_control_makes_the_same_updates_over_a_whole_run(tmp_path: Path, stage: str) -> None:
    """As many of every raw batch, so as many updates, samples and passes; other samples."""
    filtered = fit(f"select:accuracy >> {stage}", tmp_path / "filter")
    control = fit(f"select:matched-random:of={tmp_path / 'filter'} >> {stage}", tmp_path / "control")
    alone = fit(f"select:matched-random >> {stage}", tmp_path / "alone")
    assert [control.result[key] for key in COUNTS] == [filtered.result[key] for key in COUNTS]
    for ours, theirs in zip(control.history, filtered.history, strict=True):
        chosen = [
            {name: value for name, value in r["select"].items() if name != "choices"} for r in (ours, theirs)
        ]
        assert chosen[0] == chosen[1]
    assert control.result["param_norm"] != filtered.result["param_norm"]
    assert alone.result["backpropagated"] != filtered.result["backpropagated"]  # what its own network errs on


def test_which_ones_is_left_to_chance() -> None:
    part = MatchedRandom(of="there")
    part._record = [(10, 3), (10, 0), (10, 10)] * 400
    generator, taken = torch.Generator().manual_seed(0), torch.zeros(10)
    scored = Scored(torch.arange(10), torch.zeros(10, dtype=torch.int64), torch.zeros(10, 3), torch.zeros(10))
    for place in range(1200):
        mask = part.mask(scored, generator)
        assert int(mask.sum()) == (3, 0, 10)[place % 3]
        taken += mask
    assert ((taken - 400 - 120).abs() < 5 * (400 * 0.3 * 0.7) ** 0.5).all()
    with pytest.raises(ConfigError, match="1200 raw batches, and this run draws more"):
        part.mask(scored, generator)


def test_a_record_is_read_in_its_order_and_resumed(tmp_path: Path) -> None:
    lines = [{"candidates_each": [8, 8], "kept_each": [3, 1]}, {"candidates_each": [8], "kept_each": [0]}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"select": line}) + "\n" for line in lines))
    assert read_record(tmp_path) == [(8, 3), (8, 1), (8, 0)]
    one, other = MatchedRandom(of=str(tmp_path)), MatchedRandom(of=str(tmp_path))
    scored = Scored(torch.arange(8), torch.zeros(8, dtype=torch.int64), torch.zeros(8, 3), torch.zeros(8))
    assert int(one.mask(scored, torch.Generator()).sum()) == 3
    other.load_state_dict(one.state_dict())
    assert int(other.mask(scored, torch.Generator()).sum()) == 1
    with pytest.raises(ConfigError, match=r"raw batch 2 has 7 candidates, and had 8"):
        one.mask(scored.rows(torch.arange(7)), torch.Generator())


def test_a_run_is_told_by_the_record_and_not_by_where_it_lies(tmp_path: Path) -> None:
    for name, kept in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / name).mkdir()
        line = {"select": {"candidates_each": [8], "kept_each": [kept]}}
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(line))
    a, b, c = (MatchedRandom(of=str(tmp_path / name)).config() for name in "abc")
    assert a == b != c
    assert str(tmp_path) not in str(a)
    assert "of" not in MatchedRandom().config()  # runs of before are the same ones


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("matched-random:margin=0.2,of=there", "leave the margin out"),
        ("matched-random:of=there >> epochwise", "write batchwise"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_select(text)


def test_a_folder_without_a_record(tmp_path: Path) -> None:
    fit("none", tmp_path / "erm", budget="20 steps")
    for there in ("erm", "nothing"):
        with pytest.raises(ConfigError, match="no run that selected batchwise"):
            fit(f"select:matched-random:of={tmp_path / there}", tmp_path / there / "control", budget="20 steps")


METHODS = {
    "control": "select:matched-random:of=filter",  # before what it follows
    "filter": "select:accuracy",
    "erm": "none",
}
COMPARED: dict[str, Any] = {
    "data": "digits",
    "model": "fcnet-16",
    "budget": "6k cost",
    "per_class": 10,
    "val_per_class": 2,
    "augment": "none",
    "settings": {"batch_size": 16},
}


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_comparison_matches_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    """Runs of the control wait for those they replay; the same call again trains nothing."""
    monkeypatch.setattr(
        "lessonplan.report.write_run", lambda folder: None
    )  # pages take their time, and are tested elsewhere
    monkeypatch.setattr("lessonplan.report.write_comparison", lambda folder: None)
    results = lp.compare(METHODS, out=tmp_path, seeds=2, jobs=jobs, **COMPARED)
    assert results["failures"] == []
    control, filtered, _ = (method["runs"] for method in results["methods"])
    for ours, theirs in zip(control, filtered, strict=True):
        assert [ours[key] for key in COUNTS] == [theirs[key] for key in COUNTS]
        assert ours["test_accuracy"] != theirs["test_accuracy"]
    assert control[0]["backpropagated"] != control[1]["backpropagated"]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/*/result.json")}
    lp.compare(METHODS, out=tmp_path, seeds=2, jobs=1, **COMPARED)
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/*/result.json")}
    changed = {**METHODS, "filter": "select:accuracy:margin=0.2"}
    pair = {name: changed[name] for name in ("control", "filter")}
    with pytest.warns(LessonplanWarning, match="not in this table, 6 of them"):
        lp.compare(pair, out=tmp_path, seeds=1, jobs=1, **COMPARED)
    assert len(list(tmp_path.glob("runs/control-seed0-*"))) == 2


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            {"control": "select:matched-random:of=filtr", "filter": "select:accuracy"},
            r"neither a method .*\(filter\)",
        ),
        ({"a": "select:matched-random:of=b", "b": "select:matched-random:of=a"}, "a control too"),
    ],
)
def test_comparisons_that_cannot_match(tmp_path: Path, methods: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lp.compare(methods, out=tmp_path, seeds=1, jobs=1, **COMPARED)
