"""The verdict's words and page, from records written by hand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import tyro
from rich.console import Console

from lessonplan.commands import COMMAND_TYPES
from lessonplan.errors import DataError
from lessonplan.report import write_pages
from lessonplan.report.advice import print_advice, rows, write_advice
from lessonplan.report.advice_words import sentences, train_command


def about(mean: float, reach: float, decided: str | None, rounds: int = 9, **need: int | None) -> dict[str, Any]:
    return {
        "mean": mean,
        "interval": [mean - reach, mean + reach],
        "level": 0.99,
        "error": reach / 4,
        "rounds": rounds,
        "samples": 200,
        "decided": None if decided is None else {"verdict": decided, "rounds": rounds, "look": 3},
        "need": None if decided is not None else {"rounds": None, "samples": None, **need},
    }


@pytest.fixture
def record() -> dict[str, Any]:
    """Five plans: one better, one open, one set aside, one worse, one left out; with test data."""
    standing = {
        "good<b>": about(0.06, 0.02, "better"),
        "open": about(0.02, 0.05, None),
        "aside": about(-0.01, 0.09, None, rounds=4),
        "bad": about(-0.2, 0.1, "worse", rounds=4),
    }
    scores = {"plain": 0.8, "good<b>": 0.86, "open": 0.82, "aside": 0.79, "bad": 0.6, "cut": None}
    by_round = {
        name: {str(r): score + 0.01 * (r % 3) for r in range(standing.get(name, {}).get("rounds", 9))}
        for name, score in scores.items()
        if score is not None
    }
    return {
        "schema": 1,
        "identity": {
            "data": "folder:my photos",
            "options": {"test_fraction": 0.0, "per_class": 20, "val_fraction": 0},
            "seed": 0,
            "level": 0.95,
        },
        "plans": {name: {} for name in scores} | {"cut": {"left_out": "no images."}},
        "sizes": {
            "classes": ["a", "b"], "labelled": 200, "train": 160, "test": 50, "least": 20, "own_validation": False,
        },
        "seconds": 1700.0,
        "rung": 9,
        "running": ["good<b>", "open"],
        "looks": [
            {"rounds": 4, "rung": 4, "counted": True, "left": {"bad": "worse than plain training"}},
            {"rounds": 6, "rung": 6, "counted": True, "left": {}},
            {"rounds": 9, "rung": None, "counted": True, "left": {}},
        ],
        "standing": standing,
        "final": {
            "plan": "good<b>", "folder": "model", "budget": "1 epochs",
            "test": {"samples": 50, "model": 0.84, "reference": 0.8, "mean": 0.04, "interval": [-0.02, 0.1]},
        },
        "readings": ["good<b>", "plain"],
        "verdict": {
            "plan": "good<b>", "kind": "better", "rounds": 9, "scores": scores, "by_round": by_round,
            "optimism": 0.004, "more": None,
        },
        "allowance": {"total": 1800.0, "unit": "seconds", "workers": 2, "spent": 1800.0},
        "environment": {"torch": "2"},
    }  # fmt: skip


def test_a_finding_in_words(record: dict[str, Any]) -> None:
    found = sentences(record, Path("advice"))
    assert found[0] == (
        "good<b> beats plain training: +6.00 points (+4.00 to +8.00) of validation accuracy in 9 rounds on 200"
        " labelled samples; the interval holds at 95% for all plans and looks together."
    )
    text = " ".join(found)
    assert "Not worth trying here: bad, -20.00 points (-30.00 to -10.00)." in text
    assert "Undecided, and still in: open (+2.00)." in text
    assert "Undecided, and set aside because others looked better early on: aside (-1.00)." in text
    assert "Left out: cut (no images)." in text
    assert (
        "On 50 test samples, not looked at before, the classifier is right in 84.00% and plain training in" in text
    )
    assert "80.00%: +4.00 points (-2.00 to +10.00), an interval for these two networks" in text
    assert "flattered validation accuracy by about 0.40 points" in text
    assert "Validation said 86.00% for networks trained on 160 samples; test data say 84.00%" in text
    assert "lessonplan predict advice/model NEW --out predictions.csv" in text


def test_a_guess_and_what_would_decide_it(record: dict[str, Any]) -> None:
    record["verdict"] |= {
        "plan": "open",
        "kind": "undecided",
        "more": {"rounds": 21, "seconds": 900.0, "samples": None},
    }
    found = sentences(record, Path("advice"))
    assert found[0].startswith(
        "open is the best guess, not a finding: +2.00 points (-3.00 to +7.00) against plain"
    )
    assert "would be found in four of five cases after 21 rounds: about 15.0 min more" in found[1]
    record["verdict"]["more"] = {"rounds": None, "seconds": None, "samples": 1234}
    assert "No time would decide it with these labels" in sentences(record, Path("advice"))[1]
    assert "about 1,300 labelled samples" in sentences(record, Path("advice"))[1]
    assert "Better than plain training too: good<b>" in " ".join(found)


def test_nothing_beats_plain_training(record: dict[str, Any]) -> None:
    record["standing"] = {"bad": record["standing"]["bad"], "aside": record["standing"]["aside"]}
    record["verdict"] |= {"plan": "plain", "kind": "plain"}
    assert sentences(record, Path("advice"))[0] == (
        "Nothing beats plain training here: of 2 other plans aside came closest, with -1.00 points"
        " (-10.00 to +8.00) in 4 rounds on 200 labelled samples."
    )


def test_a_second_reading_of_test_data_and_few_labels_are_told(record: dict[str, Any]) -> None:
    record["readings"] = ["open", "plain", "good<b>"]
    record["sizes"]["least"] = 3
    text = " ".join(sentences(record, Path("advice")))
    assert "Test data were read after an earlier part too" in text
    assert "The rarest class has 3 labelled samples" in text
    record["verdict"] = {}
    assert sentences(record, Path("advice")) == [
        "The tournament is not over: give the same command again to go on."
    ]


def test_the_command_that_is_offered_is_one(record: dict[str, Any]) -> None:
    line = train_command(record, Path("my advice"))
    assert line is not None
    words = shlex.split(line)
    command = tyro.cli(COMMAND_TYPES["train"], args=words[2:])
    assert command.plan == Path("my advice/plan.yaml")
    assert (command.source.data, command.source.per_class, command.source.val_fraction) == (
        "folder:my photos",
        20,
        0,
    )
    record["plans"]["good<b>"]["decides"] = True
    record["identity"]["val_fraction"] = 0.2
    assert "--val-fraction 0.2 --out" in str(train_command(record, Path("a")))
    record["identity"]["data"] = "a tuple given in Python"
    assert train_command(record, Path("advice")) is None


def test_the_page_and_the_table(record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "advice.json").write_text(json.dumps(record))
    page = write_pages(tmp_path).read_text()
    assert page.count("<h1>") == 1
    assert "good&lt;b&gt; beats plain training" in page
    assert "good<b>" not in page
    assert 'href="model/index.html"' in page
    assert page.count("<tr>") == 7
    assert "After 4 rounds left: bad (worse than plain training)." in page
    assert "After 9 rounds: the time was over" in page
    assert '<svg class="plot"' in page
    assert [row[0] for row in rows(record)] == ["good<b>", "open", "plain", "aside", "bad", "cut"]
    assert [row[1] for row in rows(record)] == [
        "better",
        "undecided",
        "reference",
        "set aside",
        "worse",
        "left out",
    ]
    console = Console(record=True, width=140, file=(tmp_path / "out.txt").open("w"))
    print_advice(tmp_path, console)
    text = console.export_text()
    assert "good<b>" in text
    assert "+6.00" in text


def test_a_page_before_the_first_look(record: dict[str, Any], tmp_path: Path) -> None:
    record |= {"verdict": {}, "standing": {}, "looks": [], "final": {}, "readings": []}
    (tmp_path / "advice.json").write_text(json.dumps(record))
    page = write_advice(tmp_path).read_text()
    assert "not over" in page
    assert "<svg class" not in page


def test_another_layout_is_refused(record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "advice.json").write_text(json.dumps({**record, "schema": 2}))
    with pytest.raises(DataError, match="has a layout that this version"):
        write_advice(tmp_path)
