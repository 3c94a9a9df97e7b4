"""Evaluations of a comparison's runs: stored, paired, claimed about, put beside a source's numbers."""

from __future__ import annotations

import csv
import json

import pytest

from lessonplan.lab import compare
from lessonplan.lab.claims import judge
from lessonplan.lab.comparable import Ran, Setting
from lessonplan.lab.evaluation import Evaluation
from lessonplan.lab.measures import in_unit, measured
from lessonplan.lab.recipe import Claim, Table
from lessonplan.lab.source_tables import tables_of_part


@pytest.fixture(autouse=True)
def _quick(no_pages: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lessonplan.report.write_evaluation", lambda folder: None)


ATTACKED = Evaluation(attacks=("fgsm",), eps=0.05, limit=40, curve_limit=4)


def test_numbers_of_every_run_are_compared_pair_by_pair(small, tmp_path) -> None:
    results = compare(**small, out=tmp_path, evaluation=ATTACKED)
    erm, mixup = results["methods"]
    by_run = [[run["evaluation"]["fgsm_accuracy"] for run in method["runs"]] for method in (erm, mixup)]
    for method, values in zip((erm, mixup), by_run, strict=True):
        for run, value in zip(method["runs"], values, strict=True):
            stored = json.loads((tmp_path / run["folder"] / "evaluation" / "evaluation.json").read_text())
            assert stored["measures"]["fgsm_accuracy"] == value
        assert method["evaluation"]["fgsm_accuracy"]["mean"] == pytest.approx(sum(values) / 2)
    difference = mixup["evaluation"]["fgsm_accuracy"]["difference"]
    assert difference["mean"] == pytest.approx(sum(m - e for e, m in zip(*by_run, strict=True)) / 2)
    assert difference["n"] == 2
    assert erm["evaluation"]["fgsm_accuracy"]["difference"] is None
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["fgsm_accuracy"]) for row in rows] == [value for values in by_run for value in values]
    assert [row["status"] for row in rows] == ["finished"] * 4


def test_other_options_evaluate_again_but_do_not_train(small, tmp_path) -> None:
    small |= {"methods": "erm", "seeds": 1}
    plain = compare(**small, out=tmp_path)
    assert "evaluation" not in plain["methods"][0]
    [weights] = tmp_path.glob("runs/*/weights.safetensors")
    written = weights.stat().st_mtime_ns
    first = compare(**small, out=tmp_path, evaluation=ATTACKED)
    other = ATTACKED.model_copy(update={"eps": 0.2})
    second = compare(**small, out=tmp_path, evaluation=other)
    assert weights.stat().st_mtime_ns == written
    found = [r["methods"][0]["runs"][0]["evaluation"]["fgsm_accuracy"] for r in (first, second)]
    assert found[1] < found[0]
    [stored] = tmp_path.glob("runs/*/evaluation/evaluation.json")
    written = stored.stat().st_mtime_ns
    compare(**small, out=tmp_path, evaluation=other)
    assert stored.stat().st_mtime_ns == written


def test_an_evaluation_that_fails_is_reported(small, tmp_path) -> None:
    results = compare(**small | {"methods": "erm", "seeds": 1}, out=tmp_path, evaluation=Evaluation(localise=True))
    [failure] = results["failures"]
    assert "feature maps" in failure["error"]


def row(seed: int, accuracy: float, attacked: float) -> dict[str, object]:
    return {
        "seed": seed,
        "test_accuracy": accuracy,
        "evaluation": {"pgd_accuracy": attacked, "clean_accuracy": accuracy},
    }


RESULTS = {
    "level": 0.95,
    "config": {"model": "tiny"},
    "methods": [
        {"name": "erm", "runs": [row(s, 0.8, 0.30 + 0.01 * s) for s in range(4)]},
        {"name": "sum", "runs": [row(s, 0.7, 0.40 + 0.012 * s) for s in range(4)]},
    ],
}


def test_claims_on_evaluations() -> None:
    claims = [
        Claim(text="more robust", method="sum", than="erm", measure="pgd_accuracy"),
        Claim(text="less error", method="erm", than="sum", measure="pgd_error"),
        Claim(text="gains by it", method="erm", than="erm", measure="pgd_accuracy", than_measure="clean_accuracy"),
    ]
    found = {claim["text"]: claim for claim in judge(claims, RESULTS)}
    assert [claim["verdict"] for claim in found.values()] == ["held", "held", "did not hold"]
    assert "+10.30 points" in found["more robust"]["detail"]
    assert "-48.50 points" in found["gains by it"]["detail"]
    assert "(clean accuracy)" in found["gains by it"]["detail"]


def test_measures_of_an_evaluation() -> None:
    run = RESULTS["methods"][0]["runs"][1]
    assert measured(run, "pgd_accuracy") == 0.31
    assert measured(run, "pgd_error") == pytest.approx(0.69)
    assert measured(run, "test_error") == pytest.approx(0.2)
    assert measured(run, "bim_error") is None
    assert in_unit("pgd_error") == (100.0, " points")
    assert in_unit("between_gradient_norm") == (1.0, "")


def test_tables_in_per_cent() -> None:
    table = Table(
        title="t",
        of=[Setting(data="mnist", model="lenet")],
        columns=["method", "clean", "PGD"],
        measures=["clean_accuracy", "pgd_error"],
        percent=True,
        rows=[["Baseline", 95.3, 1.0]],
        methods=["erm"],
    )
    [found] = tables_of_part([table], "all", Ran("mnist", "idx:mnist", "lenet", "5ep", 60_000), RESULTS)
    assert found["rows"] == [
        ["Baseline", "95.30", "1.00"], ["ours: erm", "80.00", "68.50"], ["ours: sum", "70.00", "58.20"],
    ]  # fmt: skip
