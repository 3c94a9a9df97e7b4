"""Hugging Face image parquet: names from the metadata, bad rows, several files, streaming from the disk."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lessonplan.data import load
from lessonplan.data.parquet import image_bytes
from lessonplan.errors import ConfigError, DataError, LessonplanWarning

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
RNG = np.random.default_rng(1)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write(
    path: Path, n=8, names=("cat", "dog"), image="img", label="label", struct=True, encoded=None, labels=None
):
    """A file of random 6 x 6 images with classes in turn; returns the pixels."""
    pixels = RNG.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    encoded = encoded or [png(p) for p in pixels]
    labels = labels or [i % 2 for i in range(n)]
    column = [{"bytes": e, "path": None} for e in encoded] if struct else encoded
    table = pa.table({image: column, label: labels})
    if names:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)
    return pixels


def raw(view) -> np.ndarray:
    return view.raw(torch.arange(len(view))).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    "columns",
    [
        ("img", "label", True),
        ("image", "fine_label", True),
        ("image", "labels", False),
        ("jpg", "cls", False),
        ("images", "target", True),
    ],
)
def test_one_file(tmp_path, columns):
    image, label, struct = columns
    pixels = write(tmp_path / "x.parquet", image=image, label=label, struct=struct)
    data = load(f"parquet:{tmp_path / 'x.parquet'}", test_fraction=0)
    assert data.class_names == ("cat", "dog")
    assert np.array_equal(raw(data.train), pixels)
    assert data.train.labels.tolist() == [0, 1] * 4


@pytest.mark.parametrize(
    ("files", "spec"),
    [
        (("train.parquet", "test.parquet"), ""),
        (("train-00000-of-00001.parquet", "validation-0.parquet"), ""),
        (("data/train-0.parquet", "data/test-0.parquet"), ""),
        (("cifar-train.parquet", "cifar-test.parquet"), "cifar"),
    ],
)
def test_parts(tmp_path, files, spec):
    train, test = (write(tmp_path / f, n=n) for f, n in zip(files, (8, 4), strict=True))
    data = load(f"parquet:{tmp_path / spec}")
    assert np.array_equal(raw(data.train), train)
    assert np.array_equal(raw(data.test), test)
    assert data.description["test"] == "fixed"


def test_shards_and_the_second_specification(tmp_path):
    shards = [write(tmp_path / f"train-{i}.parquet", n=5) for i in range(2)]
    test = write(tmp_path / "other" / "held.parquet", n=4, names=("dog", "cat"))
    data = load(tmp_path, test=f"parquet:{tmp_path / 'other'}")
    assert np.array_equal(raw(data.train), np.concatenate(shards))
    assert np.array_equal(raw(data.test), test)
    assert data.test.labels.tolist() == [1, 0, 1, 0]  # by the names, not by the numbers


def test_streams_from_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("LESSONPLAN_CACHE", str(tmp_path / "cache"))
    pixels = write(tmp_path / "x.parquet")
    data = load(tmp_path, memory_limit=0, test_fraction=0, workers=1, augment="none")
    kept = load(tmp_path, test_fraction=0, augment="none")
    assert np.array_equal(raw(data.train), pixels)
    (x, y), *_ = data.train.batches([torch.tensor([7, 0])])
    assert torch.equal(x, kept.train.fetch(torch.tensor([7, 0]))[0])
    assert y.tolist() == [1, 0]
    data.close()


def test_bad_rows(tmp_path):
    encoded = [png(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(6)]
    encoded[2], encoded[4] = encoded[2][:40], None
    write(tmp_path / "a.parquet", n=6)
    write(tmp_path / "b.parquet", n=6, encoded=encoded)
    with pytest.raises(DataError, match=r"2 of 12 .*b.parquet row 2 .*b.parquet row 4 .*on_bad='skip'"):
        load(tmp_path)
    with pytest.warns(LessonplanWarning, match="2 of 12"):
        data = load(tmp_path, on_bad="skip", test_fraction=0)
    assert len(data.train) == 10


def test_bytes_of_a_slice():
    column = pa.array([b"ab", None, b"", b"cde", b"f"]).slice(1, 3)
    data, lengths = image_bytes(column, Path("x"))
    assert data.tobytes() == b"cde"
    assert lengths.tolist() == [0, 0, 3]


def test_labels_without_names_or_as_names(tmp_path):
    write(tmp_path / "n" / "x.parquet", names=None)
    assert load(tmp_path / "n").class_names == ("0", "1")
    write(tmp_path / "s" / "x.parquet", names=None, labels=["owl", "ant"] * 4)
    assert load(tmp_path / "s").class_names == ("ant", "owl")


@pytest.mark.parametrize("label", [None, 5, -1])
def test_labels_that_are_none(tmp_path, label):
    write(tmp_path / "x.parquet", n=4, labels=[0, 1, label, 1])
    with pytest.raises(DataError, match=r"x.parquet row 2 has the label .*not 0\.\.1"):
        load(tmp_path)


def test_files_that_are_none(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"x.parquet cannot be read as a parquet file"):
        load(tmp_path)
    pq.write_table(pa.table({"picture": [b""], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="columns picture, label"):
        load(tmp_path)
    with pytest.raises(DataError, match="neither a parquet file"):
        load(f"parquet:{tmp_path / 'nothing'}")
    pq.write_table(pa.table({"image": ["text"], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="holds string"):
        load(tmp_path)


def test_without_pyarrow_the_line_to_install_it(tmp_path, monkeypatch):
    write(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'lessonplan\[parquet\]'"):
        load(tmp_path)


def test_shards_whose_class_lists_differ(tmp_path):
    write(tmp_path / "train-0.parquet", n=6, names=("cat", "dog"))
    write(tmp_path / "train-1.parquet", n=6, names=("dog", "cat"), labels=[0] * 6)
    data = load(tmp_path, test_fraction=0)
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1] + [1] * 6
    write(tmp_path / "train-1.parquet", n=6, names=("dog", "cow"))
    with pytest.raises(DataError, match=r"train-1\.parquet has the classes cow, which the first file lacks"):
        load(tmp_path)
    write(tmp_path / "train-1.parquet", n=6, names=())
    with pytest.raises(DataError, match=r"train-1\.parquet has no names"):
        load(tmp_path)


@pytest.mark.parametrize("label", [-1, None])
def test_a_test_part_without_labels_is_left_out(tmp_path, label):
    write(tmp_path / "train.parquet")
    write(tmp_path / "test.parquet", n=4, labels=[label] * 4)
    data = load(tmp_path)
    assert data.description["unlabelled_parts"] == ["test"]
    assert data.description["test"] == "0.5 of every class"
    validation = write(tmp_path / "validation.parquet", n=4)
    assert np.array_equal(raw(load(tmp_path).test), validation)
    with pytest.raises(DataError, match="unlabelled"):
        load(f"parquet:{tmp_path / 'test.parquet'}")


def test_a_validation_part_decides(tmp_path):
    parts = [
        write(tmp_path / f"{name}.parquet", n=n) for name, n in (("train", 8), ("test", 4), ("validation", 6))
    ]
    data = load(tmp_path)
    assert [len(view) for view in (data.train, data.test, data.val)] == [8, 4, 6]
    assert np.array_equal(raw(data.val), parts[2])
