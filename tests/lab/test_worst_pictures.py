"""Pictures of what a comparison is most wrong about, where no run has kept them: found in the data by name."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lessonplan as lp
from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.lab.worst_pictures import pictures_of
from lessonplan.report.answers import NAME


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (root / name).mkdir()
        for i in range(9):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("limit", [2**30, 1])
def test_by_the_names_of_files(folder: Path, limit: int) -> None:
    """Whichever part of this split they are in: another seed's test part has them."""
    data = lp.data.load(f"folder:{folder}", memory_limit=limit, workers=0)
    names = [*data.train.file_names(torch.tensor([0])), *data.test.file_names(torch.tensor([2, 0]))]
    found = pictures_of(data, [*names, "cats/99.png"])
    assert set(found) == set(names)
    for name in names:
        assert np.array_equal(pixels(found[name]), np.asarray(Image.open(folder / name)))


def test_by_the_index_in_the_data() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 3, 8, 8), dtype=np.uint8)
    data = lp.data.load((images, np.arange(40) % 2), seed=3)
    found = pictures_of(data, ["7", "39", "40", "x"])
    assert set(found) == {"7", "39"}
    for name, png in found.items():
        assert np.array_equal(pixels(png), images[int(name)].transpose(1, 2, 0))


def test_rows_of_tables_have_none() -> None:
    assert pictures_of(lp.data.load("table:wine"), ["3", "4"]) == {}


def test_pictures_that_are_gone_are_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = lp.data.load(f"folder:{folder}")

    def gone(rows: torch.Tensor) -> torch.Tensor:
        raise DataError("cats/0.png cannot be read")

    monkeypatch.setattr(data.test.source, "read", gone)
    with pytest.warns(LessonplanWarning, match="left pictures out of the page"):
        assert pictures_of(data, ["cats/0.png"]) == {}


@pytest.mark.slow
def test_a_comparison_asks_for_them(tmp_path: Path) -> None:
    """The second call trains nothing, and finds pictures although no run tells any."""
    out = tmp_path / "c"
    given = {"data": "digits", "model": "fcnet-8", "per_class": 10, "seeds": 2, "jobs": 1, "budget": "1ep"}
    lp.compare({"erm": "none"}, out=out, **given)
    kept = json.loads(gzip.decompress((out / NAME).read_bytes()))
    page = (out / "index.html").read_text()
    (out / NAME).unlink()
    for file in out.glob("runs/*/mistakes.json"):
        file.unlink()
    lp.compare({"erm": "none"}, out=out, **given)
    assert json.loads(gzip.decompress((out / NAME).read_bytes())) == kept
    section = page[page.index('<section id="classes">') :].partition("</section>")[0]
    assert section in (out / "index.html").read_text()
    assert section.count("<image id=") == 8
    runs = json.loads((out / "results.json").read_text())["methods"][0]["runs"]
    for run in runs:
        lines = csv.DictReader(io.StringIO((out / run["folder"] / "predictions.csv").read_text()))
        right = [line["true"] == line["predicted"] for line in lines]
        assert np.mean(right) == pytest.approx(run["test_accuracy"])
