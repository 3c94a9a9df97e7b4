"""What a finished run says of every sample, beside the network that it stored."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lessonplan as lp
from lessonplan.train.judged import MOST_MISTAKES, Judged


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Noise in two class folders a part, so that much is wrong."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 5), ("test", 15)):
        for name in ("cats", "dogs"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(
                    root / part / name / f"{i}.png"
                )
    return root


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    data = lp.data.load(f"folder:{pictures}", augment="none")
    lp.fit("tiny", data, None, "6 steps", out=out, batch_size=8, threads=1)
    return out


def read_table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "predictions.csv").read_text())))


def test_the_table_is_what_the_stored_network_says(pictures, folder) -> None:
    rows = read_table(folder)
    assert list(rows[0]) == ["row", "file", "true", "predicted", "confidence", "loss", "cats", "dogs"]
    assert sorted(row["file"] for row in rows) == sorted(
        path.relative_to(pictures).as_posix() for path in pictures.glob("test/*/*.png")
    )
    classifier = lp.train.load(folder)
    said = classifier.predict([pictures / row["file"] for row in rows])
    for i, (row, each) in enumerate(zip(rows, said.tolist(), strict=True)):
        assert row["row"] == str(i)
        assert row["true"] == Path(row["file"]).parent.name
        assert row["predicted"] == ("cats", "dogs")[each[1] > each[0]]
        assert [float(row["cats"]), float(row["dogs"])] == pytest.approx(each, abs=1e-5)
        assert float(row["confidence"]) == pytest.approx(max(each), abs=1e-5)
        assert float(row["loss"]) == pytest.approx(-np.log(each[row["true"] == "dogs"]), abs=1e-5)
    right = np.mean([row["true"] == row["predicted"] for row in rows])
    assert json.loads((folder / "result.json").read_text())["test"]["accuracy"] == pytest.approx(right)


def test_the_worst_mistakes_with_their_pictures(pictures, folder) -> None:
    stored = json.loads((folder / "mistakes.json").read_text())
    wrong = [row for row in read_table(folder) if row["true"] != row["predicted"]]
    assert len(wrong) > 3, "the test needs a run that errs"
    assert (stored["part"], stored["samples"], stored["wrong"]) == ("test", 30, len(wrong))
    worst = sorted(wrong, key=lambda row: -float(row["loss"]))[:MOST_MISTAKES]
    assert [(s["file"], s["true"], s["predicted"]) for s in stored["worst"]] == [
        (row["file"], row["true"], row["predicted"]) for row in worst
    ]
    for sample, row in zip(stored["worst"], worst, strict=True):
        assert sample["probability"] == pytest.approx(float(row["confidence"]), abs=1e-6)
        assert sample["probability_of_true"] == pytest.approx(float(row[row["true"]]), abs=1e-6)
        shown = Image.open(io.BytesIO(base64.b64decode(sample["png"])))
        assert np.array_equal(np.asarray(shown), np.asarray(Image.open(pictures / sample["file"])))


def test_names_of_files_through_every_source(pictures) -> None:
    """Of a validation part behind the training part, streamed or in memory, and of a test part of its own."""
    for limit in (2**30, 1):
        data = lp.data.load(f"folder:{pictures}", memory_limit=limit, workers=0)
        for view, part in ((data.train, "train"), (data.val, "val"), (data.test, "test")):
            where = torch.tensor([3, 0])
            names = view.file_names(where)
            for name, raw, label in zip(names, view.raw(where), view.labels[where].tolist(), strict=True):
                assert name.startswith(f"{part}/{data.class_names[label]}/")
                assert np.array_equal(raw.permute(1, 2, 0).numpy(), np.asarray(Image.open(pictures / name)))


def test_without_files_and_without_a_test_part(arrays, quick, tmp_path) -> None:
    """The validation part takes the test part's place, samples are named by their index in the data."""
    data = lp.data.load(arrays(20, 0), val_fraction=0.2, test_fraction=0, augment="none")
    run = quick(data=data, out=tmp_path)
    rows = read_table(tmp_path)
    assert [int(row["index"]) for row in rows] == data.val.rows.tolist()
    labels = arrays(20, 0)[1]
    assert [row["true"] for row in rows] == [data.class_names[labels[int(row["index"])]] for row in rows]
    assert len(rows) == sum(map(sum, run.result["val"]["confusion"]))
    stored = json.loads((tmp_path / "mistakes.json").read_text())
    assert stored["part"] == "val"
    assert all(sample["file"] is None for sample in stored["worst"])


@pytest.mark.parametrize(("classes", "columns"), [(100, 106), (101, 6)])
def test_many_classes_have_no_columns(data, classes: int, columns: int) -> None:
    judged = Judged(
        "test", data.test, torch.randn(30, classes), data.test.labels, [f"c{i}" for i in range(classes)]
    )
    lines = list(csv.reader(io.StringIO(judged.table())))
    assert {len(line) for line in lines} == {columns}


def test_features_have_no_pictures(tmp_path) -> None:
    lp.fit("fcnet-4", "table:wine", None, "2 steps", out=tmp_path, threads=1)
    stored = json.loads((tmp_path / "mistakes.json").read_text())
    assert stored["worst"]
    assert {sample["png"] for sample in stored["worst"]} == {None}
