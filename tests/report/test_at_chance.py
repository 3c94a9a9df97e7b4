"""A network that learned nothing is told of: on its page, in the terminal, in a comparison's finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lessonplan as lp
from lessonplan.report.at_chance import run_note


def result(confusion: list[list[int]], trained: float | None = None) -> dict[str, Any]:
    return {"test": {"confusion": confusion}, "train_set": {"accuracy": trained} if trained is not None else {}}


def test_the_sentence_names_what_chance_gives_and_what_to_do() -> None:
    note = run_note(result([[10, 0], [10, 0]], trained=0.55))
    assert "accuracy 50.00 %, and 50.00 % for whoever always names the most frequent class" in note
    assert "warmup" in note
    assert "--evaluate-train tells" in run_note(result([[10, 0], [10, 0]]))
    # who learned the training samples by heart needs no warm-up
    assert "warmup" not in run_note(result([[5, 5], [5, 5]], trained=1.0))


@pytest.mark.parametrize("confusion", [[[9, 1], [1, 9]], [], [[20, 0], [0, 0]], [[1, 2]], [["a"]], "nothing"])
def test_nothing_is_said_of_who_learned_or_was_not_judged(confusion: Any) -> None:
    assert run_note(result(confusion)) == ""
    assert run_note({}) == ""


def test_it_is_said_wherever_a_run_is_shown(tmp_path: Path) -> None:
    methods = {"stuck": {"settings": {"lr": 1e-9, "schedule": "constant"}}, "erm": {"settings": {"lr": 0.3}}}
    results = lp.compare(
        methods, "digits", out=tmp_path, model="fcnet-16", seeds=1, budget="60 steps", per_class=20, jobs=1
    )
    findings = {method["name"]: method["finding"] for method in results["methods"]}
    assert findings["stuck"].endswith("In its run answers agree with the labels no more than chance would.")
    assert "chance" not in findings["erm"]
    assert "chance would" in (tmp_path / "index.html").read_text()
    pages = {folder.name: (folder / "index.html").read_text() for folder in (tmp_path / "runs").iterdir()}
    assert {name.partition("-")[0] for name, page in pages.items() if "At chance." in page} == {"stuck"}
