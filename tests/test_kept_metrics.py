"""The metrics of a comparison's runs in one file: curves are drawn from it where runs were left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from markupsafe import Markup

import lessonplan as lp
from lessonplan.errors import DataError
from lessonplan.files import read_json_lines
from lessonplan.kept_metrics import NAME, keep_metrics, read_kept
from lessonplan.report import comparison, plots, write_comparison
from lessonplan.report.reading import read_results


def test_curves_are_the_same_without_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lessonplan.report.write_run", lambda folder: None
    )  # pages take their time, and are tested elsewhere
    monkeypatch.setattr(plots, "to_svg", lambda *_: Markup("<svg></svg>"))
    methods = {"erm": "none", "filter": "select:accuracy"}
    options = {"data": "digits", "model": "fcnet-8", "per_class": 10, "seeds": 2, "jobs": 1}
    lp.compare(methods, out=tmp_path / "c", budget="2ep", settings={"batch_size": 16}, **options)
    folder = tmp_path / "c"
    seen = []
    monkeypatch.setattr(comparison, "curve_axes", lambda stored, *_: seen.append(stored) or [])
    for keeps in (True, False):
        if not keeps:
            shutil.rmtree(folder / "runs")
        write_comparison(folder)
    with_runs, without = ({name: [run.epochs for run in runs] for name, runs in s.items()} for s in seen)
    assert with_runs.keys() == without.keys() == methods.keys()
    for name in methods:
        assert len(without[name]) == 2
        for ours, theirs in zip(without[name], with_runs[name], strict=True):
            assert [line["val"] for line in ours] == [line["val"] for line in theirs]
            assert [line["cost"] for line in ours] == [line["cost"] for line in theirs]
            assert "kept_each" not in str(ours)
    assert (folder / NAME).stat().st_size < 20_000
    assert set(read_kept(folder)) == {run["folder"] for m in read_results(folder)["methods"] for run in m["runs"]}


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    for name, epochs in (("a", 2), ("b", 0), ("c", 1)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        lines = [{"epoch": e, "select": {"kept": 3, "kept_each": [1, 2]}} for e in range(epochs)]
        (tmp_path / "runs" / name / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    folders = [tmp_path / "runs" / name for name in "abc"]
    keep_metrics(tmp_path, folders)
    first = (tmp_path / NAME).read_bytes()
    assert read_kept(tmp_path) == {
        "runs/a": [{"epoch": 0, "select": {"kept": 3}}, {"epoch": 1, "select": {"kept": 3}}],
        "runs/c": [{"epoch": 0, "select": {"kept": 3}}],
    }
    assert read_json_lines(folders[0] / "metrics.jsonl")[0]["select"]["kept_each"] == [1, 2]  # where it was
    keep_metrics(tmp_path, folders)
    assert (tmp_path / NAME).read_bytes() == first
    (tmp_path / NAME).write_bytes(first[:-9])
    with pytest.raises(DataError, match="is damaged"):
        read_kept(tmp_path)
    assert read_kept(tmp_path / "runs") == {}
