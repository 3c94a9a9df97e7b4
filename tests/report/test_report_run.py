"""A run's page, whole, unfinished and damaged."""

from __future__ import annotations

import json
import re

import pytest

from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.report import write_run
from lessonplan.report.reading import read_run


def figures(text: str) -> list[str]:
    return re.findall(r"<figcaption><h3>([^<]+)</h3>", text)


def cards(text: str) -> dict[str, str]:
    return dict(re.findall(r"<div><dt>([^<]+)</dt><dd>([^<]+)</dd></div>", text))


def test_finished_run_shows_all_of_it(tmp_path, synthetic):
    row = synthetic.write_run_folder(tmp_path / "run")
    text = write_run(tmp_path / "run").read_text()
    assert figures(text) == [
        "Loss", "Accuracy", "Loss quantiles", "Learning rate", "Norm of the weights", "Speed", "Memory",
        "Images per mix (K)", "Confusion matrix", "Accuracy per class",
    ]  # fmt: skip
    shown = cards(text)
    assert shown["Test accuracy"] == f"{100 * row['test_accuracy']:.2f} %"
    assert shown["Steps"] == "200"
    assert shown["Calibration error"] == "0.031"
    assert "budget: 30k samples" in text
    assert "digit 7" in text


def test_confusion_matrix_writes_its_counts(tmp_path, synthetic):
    synthetic.write_run_folder(tmp_path / "run")
    counts = json.loads((tmp_path / "run/result.json").read_text())["test"]["confusion"]
    text = write_run(tmp_path / "run").read_text()
    drawing = text[text.index("Confusion matrix of") :].partition("</svg>")[0]
    written = [int(value) for value in re.findall(r">(\d+)</text>", drawing)]
    assert written == [value for row in counts for value in row if value]


def test_unfinished_run_without_validation(tmp_path, synthetic):
    synthetic.write_run_folder(tmp_path / "run", finished=False, val=False, epochs=3)
    text = write_run(tmp_path / "run").read_text()
    assert "unfinished" in text
    assert figures(text)[:3] == ["Loss", "Accuracy", "Loss quantiles"]
    assert "training loss" in text
    assert "Validation accuracy" not in cards(text)
    assert cards(text)["Epochs"] == "3"
    assert "Accuracy per class" not in figures(text)


def test_run_that_has_only_begun(tmp_path, synthetic):
    synthetic.write_run_folder(tmp_path / "run", finished=False, epochs=0)
    text = write_run(tmp_path / "run").read_text()
    assert figures(text) == []
    assert "model: tiny" in text


def test_many_classes_show_the_weakest(tmp_path, synthetic):
    synthetic.write_run_folder(tmp_path / "run")
    path = tmp_path / "run/result.json"
    result = json.loads(path.read_text())
    accuracy = [index / 100 for index in range(100)]
    result["test"] |= {"per_class_accuracy": accuracy[::-1], "confusion": None}
    result["class_names"] = [f"class-{99 - index}" for index in range(100)]
    path.write_text(json.dumps(result))
    text = write_run(tmp_path / "run").read_text()
    drawn = re.findall(r">class-(\d+)</text>", text)
    assert [int(name) for name in drawn] == list(range(15))


def test_killed_mid_line_is_normal_but_damage_is_said(tmp_path, synthetic):
    folder = tmp_path / "run"
    synthetic.write_run_folder(folder, finished=False, epochs=5)
    metrics = folder / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole + '{"epoch": 6, "co')
    assert len(read_run(folder).epochs) == 5
    metrics.write_text('{"epoch": 0, "co\n' + whole)
    with pytest.warns(LessonplanWarning, match="1 damaged"):
        assert len(read_run(folder).epochs) == 5


def test_nan_in_the_loss_leaves_a_gap_not_an_error(tmp_path, synthetic):
    folder = tmp_path / "run"
    synthetic.write_run_folder(folder, finished=False, epochs=4)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(
            json.dumps({"epoch": 5, "cost": 22500, "train": {"loss": float("nan"), "accuracy": 0.1}}) + "\n"
        )
    run = read_run(folder)
    assert len(run.curve("train", "loss")[0]) == 4
    assert len(run.curve("train", "accuracy")[0]) == 5
    assert "nan" not in write_run(folder).read_text()


def test_empty_and_broken_folders(tmp_path):
    with pytest.raises(DataError, match="is no run"):
        write_run(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [1")
    with pytest.raises(DataError, match="not valid YAML"):
        write_run(tmp_path)
