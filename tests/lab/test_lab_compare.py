"""Comparisons done in this process: what is stored, what is shared, what is continued."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from scipy import stats
from torch import nn

from lessonplan.cli import main
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.lab import compare, comparison, executor
from lessonplan.lab.job import Job
from lessonplan.train import fit
from lessonplan.train.checkpoint import Checkpoints

Small = dict[str, Any]


def finished_at(root: Path) -> dict[str, int]:
    """When each run was finished, by folder name."""
    return {file.parent.name: file.stat().st_mtime_ns for file in root.glob("runs/*/result.json")}


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Labels of the jobs that were really done."""
    labels: list[str] = []
    do_task = executor.do_task

    def counted(job: Job) -> None:
        do_task(job)
        labels.append(job.label)

    monkeypatch.setattr(executor, "do_task", counted)
    return labels


def test_the_folder_of_a_comparison(tmp_path: Path, small: Small) -> None:
    results = compare(out=tmp_path, **small)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix in (".csv", ".json", ".html")) == [
        "index.html",
        "results.csv",
        "results.json",
    ]
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    runs = sorted((tmp_path / "runs").iterdir())
    assert len(runs) == 4
    for run in runs:
        for name in ("config.yaml", "metrics.jsonl", "weights.safetensors", "result.json", "index.html"):
            assert (run / name).stat().st_size > 0
        assert list((run / "checkpoints").glob("*.ckpt"))
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["method"], r["seed"], r["status"]) for r in rows] == [
        (m, s, "finished") for m in ("erm", "mixup") for s in ("0", "1")
    ]
    for row in rows:
        result = json.loads((tmp_path / row["folder"] / "result.json").read_text())
        assert float(row["test_accuracy"]) == result["test"]["accuracy"]
        assert float(row["test_balanced_accuracy"]) == result["test"]["balanced_accuracy"]
        assert float(row["test_macro_f1"]) == result["test"]["macro_f1"]
        assert int(row["samples"]) == result["samples"] == 200
    page = (tmp_path / "index.html").read_text()
    assert all(method["finding"].split(" is ")[0] in page for method in results["methods"])
    for method in results["methods"]:
        of_method = [float(row["test_macro_f1"]) for row in rows if row["method"] == method["name"]]
        assert f"{100 * sum(of_method) / 2:.2f}</td>" in page


def test_the_table_is_the_paired_statistics_of_the_runs(tmp_path: Path, small: Small, no_pages: None) -> None:
    results = compare(out=tmp_path, **{**small, "seeds": 4})
    scores = {
        method: [
            json.loads(file.read_text())["test"]["accuracy"]
            for seed in range(4)
            for file in tmp_path.glob(f"runs/{method}-seed{seed}-*/result.json")
        ]
        for method in ("erm", "mixup")
    }
    table = {method["name"]: method for method in results["methods"]}
    assert results["reference"] == "erm"
    assert table["erm"]["difference"] is None
    assert table["mixup"]["mean"] == pytest.approx(sum(scores["mixup"]) / 4)
    expected = stats.ttest_rel(scores["mixup"], scores["erm"])
    assert table["mixup"]["difference"]["p"] == pytest.approx(expected.pvalue)
    assert table["mixup"]["difference"]["ci_t"] == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_a_seed_gives_all_methods_the_same_split_and_weights(tmp_path: Path, small: Small, no_pages: None) -> None:
    compare(out=tmp_path, **{**small, "methods": "erm,mixup,sum:k=2"})
    splits: dict[int, set[str]] = {0: set(), 1: set()}
    starts: dict[int, list[dict[str, torch.Tensor]]] = {0: [], 1: []}
    for run in (tmp_path / "runs").iterdir():
        config = yaml.safe_load((run / "config.yaml").read_text())
        splits[config["seed"]].add(config["data"]["fingerprint"])
        for checkpoint in (run / "checkpoints").glob("*.ckpt"):
            if checkpoint.name != "step-0000000000.ckpt":
                checkpoint.unlink()
        start = Checkpoints(run / "checkpoints").load_newest()
        assert start is not None
        starts[config["seed"]].append(start["weights"]["model"])
    assert len(splits[0]) == len(splits[1]) == 1
    assert splits[0] != splits[1]
    for weights in starts.values():
        assert len(weights) == 3
        assert all(torch.equal(w[name], weights[0][name]) for w in weights[1:] for name in w)
    assert not torch.equal(starts[0][0]["classifier.weight"], starts[1][0]["classifier.weight"])


def test_a_stopped_comparison_continues(
    tmp_path: Path,
    small: Small,
    no_pages: None,
    outcome: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference = compare(out=tmp_path / "whole", **small)
    part = tmp_path / "part"
    do_task, labels = executor.do_task, list[str]()

    def stops_at_third(job: Job) -> None:
        if len(labels) == 2:
            raise KeyboardInterrupt
        labels.append(job.label)
        do_task(job)

    monkeypatch.setattr(executor, "do_task", stops_at_third)
    monkeypatch.setattr(comparison, "_SHARE", 1e9)  # so that only the interruption itself stores the table
    with pytest.raises(KeyboardInterrupt):
        compare(out=part, **small)
    stored = json.loads((part / "results.json").read_text())
    states = [run["status"] for method in stored["methods"] for run in method["runs"]]
    assert sorted(states) == ["finished", "finished", "waiting", "waiting"]
    assert stored["failures"] == []
    before = finished_at(part)
    assert len(before) == 2

    monkeypatch.setattr(executor, "do_task", do_task)
    results = compare(out=part, **small)
    after = finished_at(part)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    assert outcome(part) == outcome(tmp_path / "whole")
    assert [m["mean"] for m in results["methods"]] == [m["mean"] for m in reference["methods"]]


def test_a_finished_comparison_trains_nothing(
    tmp_path: Path, small: Small, no_pages: None, done: list[str]
) -> None:
    first = compare(out=tmp_path, **small)
    assert len(done) == 4
    before = finished_at(tmp_path)
    second = compare(out=tmp_path, **small)
    assert len(done) == 4
    assert finished_at(tmp_path) == before
    assert second["methods"] == first["methods"]


def test_more_seeds_and_methods_reuse_what_is_there(
    tmp_path: Path, small: Small, no_pages: None, done: list[str]
) -> None:
    compare(out=tmp_path, **{**small, "seeds": (1,)})
    assert done == ["erm, seed 1", "mixup, seed 1"]
    results = compare(out=tmp_path, **{**small, "methods": "sum:k=2,mixup,erm", "seeds": 2})
    assert sorted(done[2:]) == ["erm, seed 0", "mixup, seed 0", "sum:k=2, seed 0", "sum:k=2, seed 1"]
    assert [(m["name"], m["n"]) for m in results["methods"]] == [("sum:k=2", 2), ("mixup", 2), ("erm", 2)]


def test_a_failed_run_does_not_lose_the_others(
    tmp_path: Path, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = tmp_path / "plans.yaml"
    plans.write_text("erm:\nwild <b>:\n  mix: mixup\n  settings: {lr: 1.0e+30}\n")
    root = tmp_path / "out"
    line = f"compare --methods {plans} --model fcnet-16 --seeds 1 --per-class 10 --jobs 1 --threads 1 --out {root}"
    with pytest.raises(SystemExit) as stop:
        main([*line.split(), "--budget", "200 samples"])
    assert stop.value.code == 1
    results = json.loads((root / "results.json").read_text())
    erm, wild = results["methods"]
    assert (erm["n"], wild["n"]) == (1, 0)
    assert wild["mean"] is None
    [failure] = results["failures"]
    assert (failure["method"], failure["seed"]) == ("wild <b>", 0)
    assert "NaN or infinite" in failure["error"]
    assert "learning rate" in failure["error"]
    with (root / "results.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows["erm"]["status"] == "finished"
    assert rows["wild <b>"]["status"] == "failed"
    assert rows["wild <b>"]["error"] == failure["error"]
    page = (root / "index.html").read_text()
    assert "NaN or infinite" in page
    assert "wild <b>" not in page
    printed = capsys.readouterr().out
    assert "FAILED wild <b>, seed 0" in printed


def test_another_configuration_in_the_same_folder_is_refused(
    tmp_path: Path, small: Small, no_pages: None, done: list[str]
) -> None:
    compare(out=tmp_path, **{**small, "seeds": 1})
    before = (tmp_path / "results.json").read_bytes()
    changes: list[tuple[dict[str, Any], str]] = [
        ({"budget": "300 samples"}, "budget: 200 samples -> 300 samples"),
        ({"per_class": 20}, "data_options.per_class: 10 -> 20"),
        ({"model": "fcnet-8"}, "model: fcnet-16 -> fcnet-8"),
        ({"settings": {"lr": 0.5}}, "settings.lr: None -> 0.5"),
    ]
    for change, words in changes:
        with pytest.raises(ConfigError, match="another configuration") as caught:
            compare(out=tmp_path, **{**small, **change})
        assert words in str(caught.value)
    assert len(done) == 2
    assert (tmp_path / "results.json").read_bytes() == before
    shutil.rmtree(tmp_path / "runs")  # as a first try that was refused leaves it
    assert compare(out=tmp_path, **{**small, "budget": "300 samples"})["config"]["budget"] == "300 samples"


def test_the_folder_of_a_run_is_no_comparisons(tmp_path: Path, small: Small, no_pages: None) -> None:
    fit("fcnet-16", "digits", budget="100 samples", out=tmp_path)
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="another configuration"):
        compare(out=tmp_path, **small)
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_runs_that_are_not_in_the_table_are_told_of(tmp_path: Path, small: Small, no_pages: None) -> None:
    compare(out=tmp_path, **{**small, "methods": "erm,mixup", "seeds": 1})
    with pytest.warns(LessonplanWarning, match=r"not in this table, 1 of them \(mixup-seed0-"):
        found = compare(out=tmp_path, **{**small, "methods": "erm", "seeds": 1})
    assert [method["name"] for method in found["methods"]] == ["erm"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "tyni"}, "did you mean 'tiny'"),
        ({"model": "lenet"}, "16 x 16"),
        ({"settings": {"schedule": "cosin"}}, "did you mean 'cosine'"),
        ({"settings": {"batch_size": 1000}}, "batch_size=1000"),
        ({"settings": {"keep": "best"}, "val_fraction": 0.0}, "validation split"),
        (
            {"methods": "erm,sum:k=40", "settings": {"batch_size": 20}},
            "method sum:k=40: k=40 is larger than the batch",
        ),
        ({"jobs": 0}, "jobs=0"),
        ({"reference": "mixpu"}, "did you mean 'mixup'"),
    ],
)
def test_a_mistake_is_found_before_anything_is_written(
    tmp_path: Path, small: Small, done: list[str], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        compare(out=tmp_path / "new", **{**small, **change})
    assert done == []
    assert not (tmp_path / "new").exists()


def test_a_file_is_no_folder(tmp_path: Path, small: Small) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        compare(out=tmp_path / "taken", **small)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_model_of_ones_own(tmp_path: Path, small: Small, no_pages: None) -> None:
    """Made anew for each run, from the run's seed; it cannot go to another process and says so."""
    make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # noqa: E731
    with pytest.raises(ConfigError, match="jobs=1"):
        compare(out=tmp_path / "two", **{**small, "model": make, "jobs": 2})
    before = torch.get_rng_state()
    compare(out=tmp_path / "one", **{**small, "model": make})
    assert torch.equal(before, torch.get_rng_state())
    shapes = [
        {name: tuple(t.shape) for name, t in safetensors.torch.load_file(file).items()}
        for file in (tmp_path / "one").glob("runs/*/weights.safetensors")
    ]
    assert shapes == [{"1.weight": (10, 64), "1.bias": (10,)}] * 4


def test_threads_are_given_back(tmp_path: Path, small: Small, no_pages: None) -> None:
    before = torch.get_num_threads()
    compare(out=tmp_path, **{**small, "seeds": 1, "threads": before + 1})
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_examples_of_methods_with_dots_in_their_names(tmp_path):
    options = {"model": "fcnet-16", "seeds": 1, "budget": "100 samples", "per_class": 10, "jobs": 1}
    compare({"mixup-0.2": "mixup:alpha=0.2", "mixup-0.4": "mixup:alpha=0.4"}, out=tmp_path, **options)
    names = sorted(path.name for path in (tmp_path / "examples").iterdir())
    assert names == ["mixup-0.2.json", "mixup-0.2.png", "mixup-0.4.json", "mixup-0.4.png"]
    with pytest.warns(LessonplanWarning, match=r"not in this table, 1 of them \(mixup-0\.2-seed0-"):
        compare({"mixup-0.4": "mixup:alpha=0.4"}, out=tmp_path, **options)
    assert len(list((tmp_path / "examples").iterdir())) == 2
