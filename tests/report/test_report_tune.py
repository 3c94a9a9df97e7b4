"""The page of a search: the best trial, its worth, dots where the values are, rows in their order."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from rich.console import Console

from lessonplan.commands import COMMAND_TYPES
from lessonplan.errors import DataError
from lessonplan.report import write_pages
from lessonplan.report.tune import print_tune, rows
from lessonplan.report.tune_words import commands

SCORES = (0.5, 0.8, None, 0.8, 0.7)


def store(folder: Path, **changes: Any) -> dict[str, Any]:
    """Five trials by hand; the third failed, the second and the fourth are the best."""
    trials: list[dict[str, Any]] = [
        {"values": {"lr": lr, "mix.k": k}, "score": score, "scores": [] if score is None else [score],
         "cost": 3000, "seconds": 2.0}
        for lr, k, score in zip((1e-3, 1e-2, 1e-1, 1e-2, 3e-2), (2, 4, 4, 2, 4), SCORES, strict=True)
    ]  # fmt: skip
    trials[2]["error"] = "<b>NaN</b>"
    identity = {
        "data": "folder:my photos", "options": {"per_class": 20, "val_fraction": 0}, "val_fraction": 0.2,
        "seed": 7, "plan": {"name": "gentle", "budget": "3k cost"}, "search": ["lr=0.001..0.1 log", "mix.k=2|4"],
        "watch": "accuracy", "splits": 1, "sampler": "tpe", "at_once": 4,
    }  # fmt: skip
    record = {"schema": 1, "identity": identity, "trials": trials, "wanted": 6, "optimism": None,
              "importance": {"lr": 0.9, "mix.k": 0.1}, "environment": {"torch": "2"}} | changes  # fmt: skip
    folder.mkdir()
    (folder / "tune.json").write_text(json.dumps(record))
    return record


def test_the_page_names_the_first_of_the_best_and_calls_its_score_optimistic(tmp_path: Path) -> None:
    record = store(tmp_path / "tune")
    text = write_pages(tmp_path / "tune").read_text()
    assert "The best of 4 trials is number 2: lr=0.01, mix.k=4, with a validation accuracy of 80.00%." in text
    assert "That score is optimistic: it was picked from 4 for being the highest." in text
    assert "lr 90%, mix.k 10%" in text
    assert "could not be trained count as the worst: 3 (the first: &lt;b&gt;NaN&lt;/b&gt;)" in text
    assert [row[0] for row in rows(record)] == ["2", "4", "5", "1", "3"]
    assert rows(record)[-1][3] == "failed"


def test_dots_stand_where_the_values_are(tmp_path: Path) -> None:
    store(tmp_path / "tune")
    text = write_pages(tmp_path / "tune").read_text()
    dots = re.findall(r'<use xlink:href="#tune0-[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*var\(--m1\)', text)
    x, y = np.array(dots, dtype=float).T
    decades = (x - x[0]) / (x[1] - x[0])  # from 1e-3 to 1e-2
    np.testing.assert_allclose(decades, [0, 1, 1, np.log10(30)], atol=0.01)
    np.testing.assert_allclose((y[0] - y) / (y[0] - y[1]), [0, 1, 1, 2 / 3], atol=0.01)


def test_the_lowest_loss_is_the_best(tmp_path: Path) -> None:
    record = store(tmp_path / "other")
    identity = {**record["identity"], "watch": "loss"}
    trials = [{**row, "score": None if row["score"] is None else -row["score"]} for row in record["trials"]]
    store(tmp_path / "tune", identity=identity, trials=trials)
    text = write_pages(tmp_path / "tune").read_text()
    assert "number 1: lr=0.001, mix.k=2, with a validation loss of 0.5000" in text
    assert "being the lowest" in text


def test_the_commands_can_be_given_as_they_stand(tmp_path: Path) -> None:
    record = store(tmp_path / "a tune")
    found = dict(commands(record, tmp_path / "a tune"))
    assert len(found) == 2
    for line in found.values():
        _, name, *arguments = shlex.split(line)
        command = tyro.cli(COMMAND_TYPES[name], args=arguments)
        assert command.source.data == "folder:my photos"
        assert (command.source.per_class, command.source.val_fraction) == (20, 0.2)
    given = {**record, "identity": {**record["identity"], "data": "a tuple given in Python"}}
    assert commands(given, tmp_path) == []


def test_the_terminal_says_it_too(tmp_path: Path) -> None:
    store(tmp_path / "tune")
    said = io.StringIO()
    print_tune(tmp_path / "tune", Console(file=said, width=200))
    assert "80.00%" in said.getvalue()
    assert "That score is optimistic" in said.getvalue()
    assert "[b]" not in said.getvalue()


@pytest.mark.parametrize("changes", [{"schema": 2}, {"trials": [{}]}, {"trials": 3}, {"identity": None}])
def test_a_damaged_file_is_told(tmp_path: Path, changes: dict[str, Any]) -> None:
    store(tmp_path / "tune", **changes)
    with pytest.raises(DataError):
        write_pages(tmp_path / "tune")


def test_a_search_without_a_finished_trial_has_a_page(tmp_path: Path) -> None:
    store(tmp_path / "tune", trials=[{"values": {"lr": 0.01, "mix.k": 2}}], importance=None)
    assert "No trial is over yet." in write_pages(tmp_path / "tune").read_text()
