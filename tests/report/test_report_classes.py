"""A run's page: confusions, scores of classes, calibration, and what it is most wrong about."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lessonplan.report import write_comparison, write_run
from lessonplan.report.formatting import MISSING
from lessonplan.report.svg import text_width

NASTY = "<script>alert(1)</script>"


def page_of(folder: Path, test: dict[str, Any], names: list[str], **result: Any) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_text(
        json.dumps({"status": "finished", "test": test, "class_names": names, **result})
    )
    return write_run(folder).read_text()


def table(page: str, label: str) -> list[list[str]]:
    """The cells of a table's rows."""
    part = page[page.index(f'aria-label="{label}"') :]
    body = part[part.index("<tbody>") : part.index("</tbody>")]
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in body.split("</tr>")[:-1]]


def figure(page: str, title: str) -> str:
    start = page.index(f"<h3>{title}</h3>")
    return page[start : page.index("</figure>", start)]


def confused(classes: int) -> np.ndarray:
    """Two of three right, and some pairs that are confused more than others."""
    counts = 20 * np.eye(classes, dtype=int)
    for (true, predicted), count in {(3, 5): 9, (5, 3): 7, (1, 2): 8, (0, 4): 1}.items():
        counts[true, predicted] = count
    return counts


def test_the_most_frequent_confusions_come_first(tmp_path) -> None:
    page = page_of(tmp_path / "run", {"confusion": confused(6).tolist()}, [f"c{i}" for i in range(6)])
    assert table(page, "Most frequent confusions") == [
        ["c3", "c5", "9", "31.0"], ["c1", "c2", "8", "28.6"], ["c5", "c3", "7", "25.9"], ["c0", "c4", "1", "4.8"],
    ]  # fmt: skip
    assert "Confusion matrix, enlarged" not in page


def test_many_classes_are_shown_by_the_worst_pairs(tmp_path) -> None:
    names = [f"class-{i}" for i in range(100)]
    counts = confused(100)
    counts[50:90, 90] = 1  # as many mistakes of no pair in particular
    page = page_of(tmp_path / "run", {"confusion": counts.tolist()}, names)
    whole, part = figure(page, "Confusion matrix"), figure(page, "Confusion matrix, enlarged")
    assert "of 100 classes" in whole
    assert "class-3" not in whole
    shown = re.findall(r">(class-\d+)</text>", part)
    assert set(shown[:6]) >= {"class-1", "class-2", "class-3", "class-5"}
    assert len(set(shown)) <= 12
    assert {"9", "7", "8", "20"} <= set(re.findall(r">(\d+)</text>", part))
    assert len(table(page, "Scores of each class")) == 100


def test_classes_with_the_worst_f1_first_and_undefined_ones_last(tmp_path) -> None:
    """b is never predicted, d neither occurs nor is predicted."""
    confusion = [[8, 0, 2, 0], [3, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0]]
    rows = table(
        page_of(tmp_path / "run", {"confusion": confusion}, ["a", "b", NASTY, "d"]), "Scores of each class"
    )
    assert rows == [
        ["b", "0.000", MISSING, "0.000", "3"],
        ["a", "0.762", "0.727", "0.800", "10"],
        ["&lt;script&gt;alert(1)&lt;/script&gt;", "0.833", "0.714", "1.000", "5"],
        ["d", MISSING, MISSING, MISSING, "0"],
    ]


def test_calibration_shows_its_bins(tmp_path) -> None:
    bins = {"count": [0, 3, 1700], "confidence": [None, 0.5, 0.9], "accuracy": [None, 0.25, 0.8]}
    drawing = figure(page_of(tmp_path / "run", {"reliability": bins}, ["a", "b"]), "Calibration")
    assert "25 at 50 (3) and 80 at 90 (1700)" in drawing
    assert {"3", "1.7k"} <= set(re.findall(r">([^<]+)</text>", drawing))


def test_balanced_numbers_are_cards_where_they_are_known(tmp_path) -> None:
    page = page_of(tmp_path / "new", {"balanced_accuracy": 0.75, "macro_f1": 0.7123}, [])
    assert "<dt>Balanced accuracy</dt><dd>75.00 %" in page
    assert "<dt>Macro F1</dt><dd>71.23 %" in page
    page = page_of(tmp_path / "old", {"accuracy": 0.5}, [])
    assert not re.search("Balanced|Macro|Calibration</h3>|most wrong", page)


def test_the_validation_part_stands_in_for_a_test_part(tmp_path) -> None:
    val = {"confusion": [[3, 1], [0, 4]], "per_class_accuracy": [0.75, 1.0], "macro_f1": 0.87}
    page = page_of(tmp_path / "run", {}, ["a", "b"], val=val)
    assert "On the validation data." in page
    assert "validation accuracy (%)" in page
    assert "<dt>Macro F1</dt><dd>87.00 %" in page


def test_what_is_watched_has_its_curve(tmp_path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"cost": c, "val": {"accuracy": 0.9, "macro_f1": 0.4}}) + "\n" for c in (1, 2))
    )
    for watch, shown in (("macro-f1", True), ("accuracy", False)):
        (folder / "config.yaml").write_text(f"settings: {{watch: {watch}}}\n")
        assert ("<h3>Macro F1</h3>" in write_run(folder).read_text()) == shown


def mistake(**changed: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(buffer, "PNG")
    png = base64.b64encode(buffer.getvalue()).decode()
    known = {"row": 7, "file": "test/a/1.png", "true": "a", "predicted": NASTY, "probability": 0.987, "loss": 4.0}
    return {**known, "png": png, **changed}


def test_the_strip_of_mistakes(tmp_path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    worst = [mistake(), mistake(file=None, row=31), mistake(png=None), mistake(png='"><script>', file="odd")]
    stored = {"part": "test", "samples": 200, "wrong": 12, "worst": worst}
    (folder / "mistakes.json").write_text(json.dumps(stored))
    page = page_of(folder, {"accuracy": 0.94}, ["a", NASTY])
    strip = page[page.index('<ul class="strip">') :]
    strip = strip[: strip.index("</ul>")]
    assert strip.count("<li>") == 4
    assert strip.count('<img src="data:image/png;base64,') == 2
    assert "98.7\N{NO-BREAK SPACE}%" in strip
    assert re.findall("<small>([^<]+)</small>", strip) == ["test/a/1.png", "row 31", "test/a/1.png", "odd"]
    assert "<script>" not in strip
    assert "Of 200 test samples 12 are taken for another class" in page
    (folder / "mistakes.json").write_text(json.dumps({**stored, "worst": []}))
    assert "most wrong" not in write_run(folder).read_text()


def test_a_comparison_has_the_columns_where_a_method_has_the_numbers(tmp_path, synthetic) -> None:
    results = synthetic.write_comparison_folder(tmp_path, extras=False, seeds=2)
    for run in (tmp_path / "runs").glob("*/result.json"):  # which tells of classes, in a section of its own
        run.unlink()
    assert "Macro F1" not in write_comparison(tmp_path).read_text()
    results["methods"][1]["test_macro_f1"] = 0.61234
    (tmp_path / "results.json").write_text(json.dumps(results))
    page = write_comparison(tmp_path).read_text()
    assert '<th scope="col">Macro F1 %</th>' in page
    assert "Balanced accuracy %" not in page
    assert ">61.23</td>" in page


def test_room_for_names_is_that_of_the_widest_in_any_script() -> None:
    assert text_width([], 10) == 0
    assert text_width(["\u9023\u8863\u88d9", "i"], 10) == 30  # as wide as they are high
    assert text_width(["WWW"], 10) > text_width(["iii"], 10) > 0
    assert text_width(["W\u9023"], 7.5) == pytest.approx(text_width(["W"], 7.5) + 7.5)
