"""Names that others have given: on disks, in pages, and in terminals, which they must not control."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import lessonplan as lp
from lessonplan import cli, progress
from lessonplan.errors import LessonplanWarning, visible
from lessonplan.lab import comparison
from lessonplan.lab.examples import write_examples
from lessonplan.lab.methods import Method
from lessonplan.lab.progress import RunCounter
from lessonplan.report import file_stem
from lessonplan.report.formatting import shown
from lessonplan.report.pictures import read_pictures
from lessonplan.report.reading import read_run
from lessonplan.report.render import render
from lessonplan.report.run import run_context
from lessonplan.report.terminal import print_table

NAMES = [
    "日本語",
    "😀",
    "---",
    "n" * 300,
    "../../etc/passwd",
    "a b",
    "a/b",
    "\x1b[2Jclear",
    "con",
    "[red]x",
    "<b>",
]


@given(st.text(max_size=120), st.text(max_size=120))
def test_file_stems_are_names_of_files_and_differ(one: str, other: str) -> None:
    stem = file_stem(one)
    assert stem
    assert len(stem.encode()) <= 90
    assert not stem.startswith(".")
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert (stem == file_stem(other)) == (one == other)


def test_pictures_of_methods_of_any_name(tmp_path: Path) -> None:
    """Each has its own, inside of the folder."""
    data = lp.data.load("digits", per_class=4)
    out = tmp_path / "out"
    write_examples(out, [Method(name, lp.Plan(mix=lp.mix.Mixup())) for name in NAMES[:4]], data, 0)
    pictures = read_pictures(out / "examples", NAMES)
    assert [picture.title for picture in pictures] == NAMES[:4]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_a_comparison_of_methods_of_any_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lessonplan.report.write_run", lambda folder: None)
    names = ["日本語", "n" * 300, "\x1b[2Jclear", "[red]<b>x", "gpj.\u202eexe"]
    options: dict[str, Any] = {"model": "fcnet-8", "seeds": 1, "budget": "1 steps", "per_class": 6, "jobs": 1}
    results = comparison.compare(dict.fromkeys(names, "none"), out=tmp_path, **options)
    assert results["failures"] == []
    assert [method["n"] for method in results["methods"]] == [1] * len(names)
    assert len(list((tmp_path / "runs").iterdir())) == len(names)
    page = (tmp_path / "index.html").read_text()
    assert "\x1b" not in page
    assert "\u202e" not in page  # what follows would be read backwards
    assert "<b>x" not in page
    text = io.StringIO()
    print_table(results, Console(file=text, force_terminal=True, width=400, no_color=True))
    assert "\x1b[2J" not in text.getvalue()
    assert "\\x1b[2Jclear" in text.getvalue()
    assert "[red]<b>x" in text.getvalue()


def test_pictures_of_older_names_keep_their_place(tmp_path: Path) -> None:
    """Their files were named otherwise; the method is in the text beside each."""
    from PIL import Image

    for stem, method in (("a-b", "b"), ("z", "a a")):
        Image.new("L", (4, 4)).save(tmp_path / f"{stem}.png")
        (tmp_path / f"{stem}.json").write_text(json.dumps({"method": method}))
    assert [picture.title for picture in read_pictures(tmp_path, ["a a", "b"])] == ["a a", "b"]


@given(st.text(st.characters(), max_size=50))
def test_visible_text_controls_nothing(text: str) -> None:
    for made in (visible(text), shown(text)):
        assert not any(
            (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 or c in "\u202e\u2066" for c in made
        )
    plain = "".join(c for c in text if c.isalnum())
    assert visible(plain) == plain


def test_one_line_on_standard_error_is_printable(capsys, tmp_path) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--data", "npz:\x1b]0;title\x07.npz", "--out", str(tmp_path / "run")])
    errors = capsys.readouterr().err
    assert "\x1b" not in errors
    assert "\\x1b]0;title\\x07.npz does not exist" in errors


def test_warnings_are_one_printable_line(monkeypatch) -> None:
    said: list[str] = []

    def warn(arguments: list[str]) -> int:
        message = LessonplanWarning("files below \x1b[2J are\nleft out")
        said.append(warnings.formatwarning(message, LessonplanWarning, "file.py", 3))
        said.append(warnings.formatwarning("a\x1b[2J", UserWarning, "file.py", 3))
        return 0

    monkeypatch.setattr(cli, "_dispatch", warn)
    before = warnings.formatwarning
    with pytest.raises(SystemExit):
        cli.main([])
    assert said[0] == "lessonplan: warning: files below \\x1b[2J are left out\n"
    assert said[1] == "file.py:3: UserWarning: a\\x1b[2J\n"
    assert warnings.formatwarning is before


def test_labels_of_runs_in_a_progress_line(monkeypatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(progress, "_console", lambda: console)
    with RunCounter(2, 0) as counter:
        for label in ("[/red] closes nothing", "\x1b[2J"):
            counter.finished(label, "error", 0.5)
            lines = counter.line._progress
            assert "\x1b" not in lines.tasks[0].description + lines.tasks[0].fields["best"]
            list(lines.get_renderables())
            lines.make_tasks_table(lines.tasks)


@pytest.mark.parametrize("names", [["\ud800", "b"], ["<script>alert(1)</script>", "\x1b[31m"]])
def test_class_names_of_any_kind(tmp_path: Path, names: list[str]) -> None:
    """They go through fingerprint, configuration, predictions and page."""
    import numpy as np

    y = [names[i % 2] for i in range(24)]
    data = lp.data.load((np.random.default_rng(0).integers(0, 255, (24, 4, 4)).astype(np.uint8), y))
    run = lp.fit("fcnet-8", data, budget="2 steps", out=tmp_path / "run")
    assert run.result["class_names"] == list(data.class_names)
    if "<" in names[0]:
        page = render("run.html", run_context(read_run(tmp_path / "run")))
        assert "&lt;script&gt;alert" in page
        assert "<script>alert" not in page
    assert lp.load(tmp_path / "run").class_names == data.class_names
