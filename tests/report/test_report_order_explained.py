"""What a page and a terminal say of an explanation: the numbers, what is decided, and that nothing is."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from lessonplan.report.formatting import MINUS
from lessonplan.report.order_explained import explained, print_explanation, sentences


def difference(mean: float, verdict: str = "undecided", p: float = 1.0) -> dict[str, Any]:
    return {"mean": mean, "n": 3, "ci_t": [mean - 1, mean + 1], "p": p, "p_holm": p, "verdict": verdict}


def feature(name: str, worst: dict[str, Any], middle: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name, "words": f"what {name} is", "best": 0.8, "middle": 0.0, "worst": -0.4, "trees": 5,
        "same_sign": 0.8, "rank_correlation": -0.5, "by_epoch": {"1": 1.1, "2": 1.3, "3": 0.9},
        "best_minus_worst": worst, "best_minus_middle": middle,
    }  # fmt: skip


def way(name: str, transfers: bool, spearman: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name, "words": f"how {name} does it", "transfers": transfers, "r2": None, "spearman": spearman,
        "by_epoch": {"1": 0.2, "2": 0.5, "3": 0.8}, "chosen": {"mean": 0.25, "ci_t": [0.1, 0.4], "p": 0.01},
    }  # fmt: skip


@pytest.fixture
def record() -> dict[str, Any]:
    return {
        "schema": 1, "runs": 120, "trees": 5, "epochs": [1, 2, 3], "new_split_each_epoch": True,
        "check": {"orders": 25, "agreeing": 24, "median_difference": 3e-9, "largest_difference": 1e-3},
        "features": [
            feature("<first>", difference(1.2, "better", 0.01), difference(0.8, "better", 0.02)),
            feature("second", difference(0.1), difference(-0.6, "worse", 0.03)),
            feature("third", difference(0.2), difference(0.1)),
        ],
        "same_for_all_orders": ["descent"],
        "foretold": [
            way("ridge", True, difference(0.5, "better", 0.01)),
            way("expansion", True, difference(0.1)),
            way("evaluation", False, difference(0.9, "better", 0.001)),
        ],
    }  # fmt: skip


def test_the_finding_in_words(record: dict[str, Any]) -> None:
    assert sentences(record) == [
        "Of 3 features 2 separate the best tenth of orders from the worst or the middle one, corrected for all:"
        " <first> (more in the best than in the worst and middle) and second (less in the best than in the middle)"
        " (120 orders from 5 starts in 3 epochs).",
        f"In epochs that nothing was fitted on, ridge foretells ranks best: Spearman 0.50 ({MINUS}0.50 to 1.50), 0"
        " is knowing nothing; the order it puts first stands at 0.25 of its tree, 0 the best, 0.5 by chance. Not"
        " better than nothing: expansion.",
        "How much there is to know: the expansion of the evaluation loss itself reaches 0.90.",
    ]


def test_nothing_is_said_plainly(record: dict[str, Any]) -> None:
    for row in record["features"]:
        row.update(best_minus_worst=difference(0.1), best_minus_middle=difference(0.1))
    record["foretold"] = [
        way("ridge", True, difference(0.1)),
        way("places", True, difference(-0.5, "worse", 0.01)),
    ]
    said = sentences(record)
    assert said[0].startswith("None of 3 features separates the best tenth")
    assert said[1:] == ["Nothing foretells the order's rank in an epoch that it was not fitted on."]
    record["epochs"], record["foretold"] = [1], []
    assert sentences(record) == [
        "Nothing can be decided from one epoch: its trees share their batches (120 orders from 5 starts)."
    ]


def test_figures_show_what_is_decided(record: dict[str, Any]) -> None:
    shown = explained(record, runs=120)
    assert not shown["stale"]
    assert explained(record, runs=240)["stale"]
    assert [panel["title"] for panel in shown["panels"]] == [
        "Best, middle and worst orders",
        "Best minus worst",
        "How well ranks are foretold",
        "Epoch by epoch",
    ]
    contrasts = str(shown["panels"][1]["svg"])
    assert "var(--m1)" in contrasts  # decided
    assert "var(--m0)" in contrasts  # and not
    assert "<first>" not in contrasts
    assert [[c["decided"] for c in row["contrasts"]] for row in shown["features"]] == [
        [True, True],
        [False, True],
        [False, False],
    ]
    for row in record["foretold"]:
        row["by_epoch"] = {"1": 0.2}
    assert len(explained(record, runs=120)["panels"]) == 3


def test_the_terminal_has_both_tables(record: dict[str, Any]) -> None:
    out = io.StringIO()
    print_explanation(record, Console(file=out, width=160))
    text = out.getvalue()
    assert "<first>" in text
    assert "1.20 (0.20 to 2.20)" in text
    assert "80%" in text
    assert f"0.90 ({MINUS}0.10 to 1.90)" in text
    assert "24 of 25 orders that were trained again ended with the stored loss (median difference 3e-09)" in text
