"""The page of an evaluation, and the numbers of evaluations in a comparison's page and in the terminal."""

from __future__ import annotations

import io
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lessonplan.errors import DataError
from lessonplan.report import evaluation as pages
from lessonplan.report import write_comparison, write_pages
from lessonplan.report.comparison_evaluation import evaluation_rows, evaluation_table
from lessonplan.report.evaluation import write_evaluation
from lessonplan.report.evaluation_terminal import print_evaluation
from lessonplan.report.sections.section import sections

NASTY = "<script>alert(1)</script>"


def attacks(*, adaptive: float = 0.11, transfer: float = 0.55, blind: float = 0.0) -> dict[str, Any]:
    """The part that attacks, as the lab stores it."""
    rows = [{"attack": "none", "loss": None, "accuracy": 0.9, "top5": 1.0, "no_gradient": None, "images": 200}]
    rows += [
        {"attack": name, "loss": loss, "accuracy": value, "top5": 0.8, "no_gradient": blind, "images": 200}
        for name, loss, value in (
            ("fgsm", "cross-entropy", 0.4),
            ("pgd", "cross-entropy", 0.2),
            ("pgd", "margin", 0.15),
        )
    ]
    defended = {"undefended": 0.2, "transfer": transfer, "adaptive": adaptive, "no_gradient": 0.0}
    clean = {"attack": "none", "undefended": 0.9, "transfer": 0.88, "adaptive": 0.88, "robust": 0.88}
    table = [clean, {"attack": "pgd", **defended, "robust": min(adaptive, transfer)}]
    return {
        "key": "k", "seconds": 3.0, "eps": 8 / 255, "samples": 200, "rows": rows,
        "measures": {"pgd_accuracy": 0.2},
        "curve": {"attack": "pgd", "samples": 50, "points": [[0.0, 0.9], [4 / 255, 0.5], [8 / 255, 0.2]]},
        "defences": {"samples": 40, "draws": 20, "judgements": 5, "tables": {"ttsa": table}},
    }  # fmt: skip


def evaluation() -> dict[str, Any]:
    """An evaluation with every part."""
    metrics = {"samples": 200, "accuracy": 0.9, "loss": 0.31, "top5": 1.0,
               "calibration_error": 0.05, "param_norm": 12.0, "per_class_accuracy": [0.8, 1.0],
               "confusion": [[80, 20], [0, 100]]}  # fmt: skip
    bins = {"count": [0, 50, 150], "confidence": [None, 0.6, 0.9], "accuracy": [None, 0.5, 0.95]}
    done = {"key": "k", "seconds": 1.0}
    ood = {name: {"tnr_at_tpr95": 0.5, "auroc": value, "detection_accuracy": 0.8}
           for name, value in (("uniform", 0.7), (NASTY, 0.9), ("mean", 0.8))}  # fmt: skip
    parts = {
        "classification": {**done, **metrics, "reliability": bins, "measures": {}},
        "label_noise": {**done, "corrupted": 20, "samples": 100,
                        "measures": {"train_error_real": 0.0512, "train_error_corrupted": 0.7345}},
        "test_time": {**done, "k": 2, "copies": 4, "weight": 1.0, "of": "probabilities", "samples": 200,
                      "weight_samples": 50, "weight_clean_accuracy": 0.94,
                      "by_copies": {"ttsa": [[1, 0.6], [2, 0.7], [4, 0.87]]},
                      "by_weight": [[0.5, 0.5], [1.0, 0.87], [2.0, 0.9]],
                      "measures": {"clean_accuracy": 0.9, "ttsa_accuracy": 0.87}},
        "attacks": attacks(),
        "ood": {**done, "samples": {"in": 200, "uniform": 60, NASTY: 70}, "report": ood,
                "confidence": {"in": [0.0, 1.0], "uniform": [0.5, 0.5], NASTY: [1.0, 0.0]}, "measures": {}},
        "localisation": {**done, "method": "cam", "boxes": "the true boxes of the data", "samples": 50,
                         "threshold": 0.35, "correct": 0.8, "curve": [[0.0, 0.1], [0.35, 0.6]], "whole_image": 0.1,
                         "measures": {"localisation_accuracy": 0.4321, "localisation_known_accuracy": 0.55,
                                      "max_box_accuracy": 0.6}},
        "between": {**done, "pairs": 100, "measures": {"between_miss": 0.25, "between_gradient_norm": 1.5},
                    "curve": [{"lam": lam, "miss": 0.2, "gradient_norm": 1.0} for lam in (0.0, 0.5, 1.0)]},
    }  # fmt: skip
    return {
        "schema": 1, "title": f"{NASTY} on test data", "created": "2026-01-02T03:04:05+00:00",
        "subject": {"name": NASTY, "run": False, "data": {}, "classes": ["a", NASTY], "note": ""},
        "options": {"on": "test"}, "planned": list(parts), "parts": parts, "environment": {"torch": "2"},
        "measures": {name: value for part in parts.values() for name, value in part["measures"].items()},
    }  # fmt: skip


def written(tmp_path: Path, content: dict[str, Any]) -> str:
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    return write_evaluation(tmp_path).read_text()


def found_in(content: dict[str, Any]) -> list[str]:
    return pages.findings(sections(content))


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_every_part_has_its_place(tmp_path) -> None:
    folder = tmp_path / "pictures" / "attacks"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "Attacked-images.png")
    page = written(tmp_path, evaluation())
    for section in ("classification", "label-noise", "test-time", "attacks", "ood", "localisation", "between"):
        assert f'id="{section}"' in page
        assert f'href="#{section}"' in page
    for figure in ("reliability", "copies", "weights", "eps", "confidences", "boxes", "misses", "norms"):
        assert f'id="{figure}-' in page
    assert page.count('<img src="data:image/png') == 1
    text = words(page)
    for number in ("73.45", "5.12", "43.21", "87.00", "0.35 was chosen on training images"):
        assert number in text
    assert "PGD 20.00 55.00 11.00 11.00" in text  # undefended, transfer, adaptive, and the smaller of the last two
    assert "<script>alert" not in page


def test_what_was_not_done_is_left_out(tmp_path) -> None:
    content = evaluation()
    content["parts"] = {"classification": content["parts"]["classification"]}
    text = words(written(tmp_path, content))
    assert "unfinished" in text
    assert "still to come: label noise, test time, attacks, ood, localisation, between" in text
    assert "Adaptive" not in text


@pytest.mark.parametrize(
    ("transfer", "adaptive", "hidden"), [(0.55, 0.11, True), (0.55, 0.45, False), (0.18, 0.45, False)]
)
def test_a_hidden_gradient_is_called_one(transfer, adaptive, hidden) -> None:
    """The defence gains nothing where an attacker who knows of it leaves no more than without it."""
    content = evaluation()
    content["parts"]["attacks"] = attacks(transfer=transfer, adaptive=adaptive)
    [said] = [sentence for sentence in found_in(content) if "attacker" in sentence]
    assert ("hidden gradient" in said) == hidden
    assert f"robust accuracy {100 * min(transfer, adaptive):.2f}%" in said


def test_the_strongest_attack_is_named_and_blind_ones_too() -> None:
    content = evaluation()
    assert any("PGD on the margin leaves the least: 15.00%" in sentence for sentence in found_in(content))
    assert not any("no gradient" in sentence for sentence in found_in(content))
    content["parts"]["attacks"] = attacks(blind=0.3)
    assert any("no gradient" in sentence for sentence in found_in(content))


def test_the_terminal_has_the_tables(tmp_path) -> None:
    buffer = io.StringIO()
    print_evaluation(evaluation(), Console(file=buffer, width=160))
    said = " ".join(buffer.getvalue().split())
    assert "Attacks on the network, eps 8/255, 200 images" in said
    assert re.search(r"PGD \W+ 20.00 \W+ 55.00 \W+ 11.00 \W+ 11.00", said)


def test_report_writes_it_again(tmp_path) -> None:
    written(tmp_path, evaluation())
    (tmp_path / "index.html").unlink()
    assert write_pages(tmp_path) == tmp_path / "index.html"
    assert "Test-time sums" in (tmp_path / "index.html").read_text()


def test_a_layout_of_another_version(tmp_path) -> None:
    with pytest.raises(DataError, match="layout"):
        written(tmp_path, {**evaluation(), "schema": 99})


def measures(mean: float, difference: float | None, verdict: str = "better") -> dict[str, Any]:
    paired = {"mean": difference, "verdict": verdict} if difference is not None else None
    return {"n": 3, "mean": mean, "ci_t": [mean - 0.01, mean + 0.01], "difference": paired}


def of_methods() -> list[dict[str, Any]]:
    nothing = measures(0.0, None)
    erm = {"pgd_accuracy": measures(0.2, None), "between_gradient_norm": measures(1.5, None)}
    summed = {"pgd_accuracy": measures(0.26, 0.06)}
    return [
        {"name": "erm", "evaluation": {**erm, "pgd_no_gradient": nothing}},
        {"name": "sum", "evaluation": {**summed, "pgd_no_gradient": nothing}},
    ]


def test_a_row_a_number_and_a_column_a_method() -> None:
    rows = {row["name"]: row["cells"] for row in evaluation_rows(of_methods())}
    assert set(rows) == {"PGD accuracy", "between gradient norm"}  # shares of zero say nothing
    assert [cell["value"] for cell in rows["PGD accuracy"]] == ["20.00", "26.00"]
    assert rows["PGD accuracy"][1]["difference"] == "+6.00"
    assert rows["between gradient norm"][0]["value"] == "1.500"
    assert rows["between gradient norm"][1]["value"] == "\N{EN DASH}"
    assert evaluation_table(of_methods()) is not None
    assert evaluation_table([{"name": "erm"}]) is None


def test_a_comparisons_page_has_the_numbers(tmp_path, synthetic) -> None:
    synthetic.write_comparison_folder(tmp_path)
    plain = write_comparison(tmp_path).read_text()
    assert 'id="evaluation"' not in plain
    results = json.loads((tmp_path / "results.json").read_text())
    for method, found in zip(results["methods"], of_methods(), strict=False):
        method["evaluation"] = found["evaluation"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    page = write_comparison(tmp_path).read_text()
    assert 'id="evaluation"' in page
    assert "▲ +6.00" in page
