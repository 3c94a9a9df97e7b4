"""Claims on any measure, claims across parts, and the tables that stand beside them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from lessonplan.lab.claims import across_parts, judge, judge_trends
from lessonplan.lab.comparable import Ran, Setting
from lessonplan.lab.measures import Measure, mean_of, measured
from lessonplan.lab.recipe import Claim, Table, Trend
from lessonplan.lab.source_tables import tables_of_part

RUN = {
    "test_accuracy": 0.6, "train_accuracy": 0.8, "test_loss": 1.5, "train_loss": 0.5, "test_loss_q90": 1.0,
    "train_loss_q90": 2.0, "test_loss_worst": 9.0, "train_loss_worst": 3.0, "epochs": 30.0, "seconds": 12.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("train_accuracy", 0.8),
        ("accuracy_ratio", 0.75),
        ("loss_ratio", 3.0),
        ("loss_gap", 1.0986),  # ln 3
        ("loss_q90_ratio", 0.5),
        ("loss_q90_gap", 0.6931),  # |ln 1/2|: below 1 counts as above it
        ("loss_worst_ratio", 3.0),
        ("epochs_per_second", 2.5),
    ],
)
def test_measures_by_hand(measure: Measure, value: float) -> None:
    assert measured(RUN, measure) == pytest.approx(value, abs=5e-5)


def test_what_a_run_lacks_is_no_number() -> None:
    assert measured({"test_loss": 1.0}, "loss_ratio") is None
    assert measured({"test_loss": 1.0, "train_loss": 0.0}, "loss_ratio") is None
    assert measured({"test_loss": 0.0, "train_loss": 1.0}, "loss_gap") is None
    assert measured({"seed": 1, "test_accuracy": None}, "test_accuracy") is None
    assert mean_of([{"test_loss": 1.0, "train_loss": 0.5}, {"test_loss": 9.0}], "loss_ratio") == 2.0
    assert mean_of([], "loss_ratio") is None


def test_measures_that_do_not_exist_are_told() -> None:
    with pytest.raises(ValidationError, match="did you mean 'pgd_accuracy'"):
        Claim(text="t", method="erm", than="filter", measure="pgd_acuracy")
    with pytest.raises(ValidationError, match="unknown measure 'calibration_accuracy'"):
        Claim(text="t", method="erm", than="filter", measure="calibration_accuracy")


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_a_gap_is_the_same_from_both_sides(a: float, b: float) -> None:
    there = measured({"test_loss": a, "train_loss": b}, "loss_gap")
    back = measured({"test_loss": b, "train_loss": a}, "loss_gap")
    assert there is not None
    assert back is not None
    assert there == pytest.approx(back, rel=1e-9, abs=1e-12)
    assert math.exp(there) == pytest.approx(max(a, b) / min(a, b))


def results_of(methods: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """As much of ``results.json`` as claims and tables need."""
    rows = [{"name": n, "runs": [{"seed": s, **run} for s, run in enumerate(runs)]} for n, runs in methods.items()]
    return {"level": 0.95, "methods": rows, "config": {"model": "tiny"}}


def losses(test: list[float], train: list[float]) -> list[dict[str, float]]:
    return [{"test_loss": a, "train_loss": b} for a, b in zip(test, train, strict=True)]


def test_a_claim_on_ratios_is_judged_on_the_ratios_of_each_run() -> None:
    """The filter's losses are the higher ones, but test and training are alike."""
    plain, filtered = losses([0.60, 0.61, 0.59], [0.20, 0.21, 0.19]), losses([0.81, 0.80, 0.83], [0.8, 0.79, 0.81])
    results = results_of({"erm": plain, "filter": filtered})
    nearer = Claim(text="nearer", method="erm", than="filter", measure="loss_gap")
    lower = Claim(text="lower", method="erm", than="filter", measure="test_loss")
    verdicts = {c["text"]: c for c in judge([nearer, lower], results)}
    assert (verdicts["nearer"]["verdict"], verdicts["lower"]["verdict"]) == ("held", "did not hold")
    gaps = [abs(np.log(a["test_loss"] / a["train_loss"])) for a in plain]
    gaps_filtered = [abs(np.log(a["test_loss"] / a["train_loss"])) for a in filtered]
    low, high = stats.ttest_rel(gaps, gaps_filtered).confidence_interval(0.95)
    mean = float(np.mean(np.subtract(gaps, gaps_filtered)))
    assert f"loss gap, erm minus filter: {mean:+.3f} ({low:+.3f} to {high:+.3f})" in verdicts["nearer"]["detail"]


def accuracies(values: list[float]) -> list[dict[str, float]]:
    return [{"test_accuracy": value} for value in values]


def trend(part: str, than_part: str, text: str = "t") -> Trend:
    return Trend(text=text, method="erm", than="filter", part=part, than_part=than_part)


PARTS = {
    "large": results_of({"erm": accuracies([0.80, 0.82, 0.81]), "filter": accuracies([0.70, 0.71, 0.70])}),
    "small": results_of({"erm": accuracies([0.50, 0.70, 0.60]), "filter": accuracies([0.49, 0.68, 0.59])}),
}


def test_a_trend_compares_differences_between_parts() -> None:
    """Differences of .10, .11, .11 against .01, .02, .01: .09, .09, .10 more."""
    more, less = judge_trends([trend("large", "small", "more"), trend("small", "large", "less")], PARTS)
    assert (more["verdict"], less["verdict"]) == ("held", "did not hold")
    assert more["detail"].startswith("erm minus filter, large against small: +9.33 points (")


def test_a_trend_with_a_part_that_did_not_run_is_not_measured() -> None:
    [missing, run] = judge_trends([trend("huge", "small", "missing"), trend("large", "small", "run")], PARTS)
    assert missing["verdict"] == "not measured"
    assert "no results of huge" in missing["detail"]
    assert run["verdict"] == "held"
    assert run["detail"].endswith("3 seeds")
    assert judge_trends([trend("large", "small")], {})[0]["verdict"] == "not measured"


def test_a_claim_on_a_method_that_did_not_run_is_not_measured() -> None:
    parts = {
        "both": results_of({"erm": accuracies([0.5, 0.7, 0.6]), "filter": accuracies([0.49, 0.68, 0.6])}),
        "one": results_of({"erm": accuracies([0.5, 0.7, 0.6])}),
    }
    claim = Claim(text="It helps.", method="filter", than="erm")
    judged = {name: judge([claim], results) for name, results in parts.items()}
    assert judged["one"][0] == {
        "text": "It helps.",
        "verdict": "not measured",
        "detail": "filter did not take part at this scale",
    }
    assert across_parts(judged) == ["undecided in 1 of 2 parts (both), not measured in 1 (one): It helps."]


def test_seeds_of_one_part_alone_do_not_count() -> None:
    small = results_of({"erm": accuracies([0.5, 0.7, 0.6]), "filter": accuracies([0.49, 0.68])})
    [judged] = judge_trends([trend("large", "small")], {**PARTS, "small": small})
    assert judged["detail"].endswith("2 seeds")


def test_claims_across_parts_name_the_parts() -> None:
    claim = {"text": "It helps.", "detail": ""}
    found = across_parts({"a": [{**claim, "verdict": "did not hold"}], "b": [{**claim, "verdict": "held"}]})
    assert found == ["held in 1 of 2 parts (b), did not hold in 1 (a): It helps."]


SETTING = Setting(data="mnist", model="lenet", epochs=5)
RAN = Ran("mnist", "idx:mnist", "lenet", "5ep", 60_000)
TABLE = Table(
    title="Table 9",
    of=[SETTING],
    columns=["filtering", "loss train", "test", "ratio"],
    rows=[["None", 0.5, 1.0, 2.0], ["None again", 0.4, None, None], ["Batchwise", 0.9, 0.95, 1.056]],
    methods=["erm", "erm", "filter"],
    measures=["train_loss", "test_loss", "loss_ratio"],
    part="batch 16",
)


def test_our_rows_stand_below_the_sources() -> None:
    results = results_of({"erm": losses([1.0, 2.0], [0.5, 0.5]), "filter": [], "control": losses([1.0], [1.0])})
    [shown] = tables_of_part([TABLE], "batch 16", RAN, results)
    assert shown["columns"] == TABLE.columns
    assert shown["rows"] == [
        ["None", "0.500", "1.000", "2.000"],
        ["None again", "0.400", None, None],
        ["ours: erm", "0.500", "1.500", "3.000"],  # the mean of ratios 2 and 4, not the ratio of means
        ["Batchwise", "0.900", "0.950", "1.056"],
        ["ours: filter", None, None, None],
        ["ours: control", "1.000", "1.000", "1.000"],
    ]


def test_ours_stand_apart_where_something_differs() -> None:
    """The source's table alone, then ours with what they were measured with."""
    results = results_of({"erm": losses([1.0, 2.0], [0.5, 0.5]), "filter": []})
    theirs, ours = tables_of_part([TABLE], "batch 16", replace(RAN, model="tiny", images=1_000), results)
    assert theirs["title"] == "Table 9"
    assert theirs["rows"] == [
        ["None", "0.500", "1.000", "2.000"],
        ["None again", "0.400", None, None],
        ["Batchwise", "0.900", "0.950", "1.056"],
    ]
    assert "MNIST (1,000 training images), tiny, 5ep" in ours["title"]
    assert ours["columns"] == ["method", *TABLE.columns[1:]]
    assert ours["rows"] == [["erm", "0.500", "1.500", "3.000"], ["filter", None, None, None]]


@pytest.mark.parametrize(
    ("part", "shown"), [("batch 16", 1), ("batch 16, equal epochs", 1), ("batch 160", 0), ("all", 0)]
)
def test_a_table_stands_beside_its_part_alone(part: str, shown: int) -> None:
    assert len(tables_of_part([TABLE], part, RAN, results_of({}))) == shown
