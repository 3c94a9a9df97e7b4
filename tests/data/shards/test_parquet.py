"""Parquet files beyond memory: pictures where they lie, with their row group, or copied once."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from data.shards.conftest import CLASSES, PICTURES
from lessonplan.data import Data, load
from lessonplan.data.shards import groups
from lessonplan.data.shards.index import COPIED, IN_PLACE
from lessonplan.errors import DataError, LessonplanWarning

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
EVERY = torch.arange(PICTURES)
PLAIN = {"compression": "none", "use_dictionary": False}
WRITTEN = {
    "plain": PLAIN,
    "pages of one picture": PLAIN | {"data_page_size": 1},
    "pages of the second kind": PLAIN | {"data_page_version": "2.0"},
    "with a dictionary": {"compression": "none"},
    "lengths apart": PLAIN | {"column_encoding": {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY"}},
    "ends apart": PLAIN | {"column_encoding": {"image.bytes": "DELTA_BYTE_ARRAY"}},
    "snappy": {"compression": "snappy"},
    "zstd, with a dictionary": {"compression": "zstd", "use_dictionary": True},
}
IN_PIECES = ("snappy", "zstd, with a dictionary")


def write(root: Path, pictures, struct: bool = True, **how) -> Path:
    """Two files with row groups of seven pictures."""
    root.mkdir(parents=True, exist_ok=True)
    half = len(pictures) // 2
    for number in range(2):
        some = pictures[number * half : number * half + half]
        images = [{"path": f"{name}.png", "bytes": content} if struct else content for _, name, content in some]
        table = pa.table({"image": images, "label": [name for name, _, _ in some], "other": list(range(half))})
        pq.write_table(table, root / f"part-{number}.parquet", row_group_size=7, **how)
    return root


def opened(spec: Path | str, limit: int = 0, **more) -> Data:
    options = {"test_fraction": 0, "augment": "none", "workers": 0, "memory_limit": limit}
    return load(f"parquet:{spec}", **options | more)


@pytest.mark.parametrize("how", WRITTEN)
def test_the_same_pictures_however_they_were_written(tmp_path: Path, sets: Path, pictures, how: str) -> None:
    given = dict(WRITTEN[how])
    given |= {"use_dictionary": False} if "column_encoding" in given else {}
    write(tmp_path / "some", pictures, **given)
    memory, shards = (opened(f"{tmp_path}/some/part-{{0,1}}.parquet", limit) for limit in (2**30, 0))
    folder = load(f"folder:{sets / 'folder'}", test_fraction=0, memory_limit=0)
    assert torch.equal(shards.train.raw(EVERY.flip(0)), folder.train.raw(EVERY.flip(0)))
    assert torch.equal(memory.train.raw(EVERY), folder.train.raw(EVERY))
    assert torch.equal(shards.train.labels, folder.train.labels)
    assert shards.class_names == CLASSES
    assert shards.fingerprint == folder.fingerprint
    assert (
        shards.train.file_names(torch.tensor([31]))
        == memory.train.file_names(torch.tensor([31]))
        == ["part-1.parquet row 1"]
    )
    group = shards.train.source.images.index.columns["group"]
    if how in IN_PIECES:
        assert (group >= 0).all()
    elif how != "ends apart":
        assert (group == IN_PLACE).all()


def test_pictures_without_a_struct_and_pictures_twice(tmp_path: Path, pictures) -> None:
    twice = [pictures[i // 2 * 2] for i in range(PICTURES)]
    for how in ("plain", "with a dictionary", "snappy"):
        write(tmp_path / how, twice, struct=False, **WRITTEN[how])
        shards, memory = opened(tmp_path / how), opened(tmp_path / how, 2**30)
        assert torch.equal(shards.train.raw(EVERY), memory.train.raw(EVERY))


def test_bad_rows_are_named(tmp_path: Path, pictures) -> None:
    some = list(pictures)
    some[8], some[33] = ("ape", "8", b""), ("bee", "33", b"no picture")
    write(tmp_path / "some", some, **PLAIN)
    with pytest.raises(DataError, match=r"2 of 60 .*part-0\.parquet row 8 .*part-1\.parquet row 3 "):
        opened(tmp_path / "some")
    with pytest.warns(LessonplanWarning, match="2 of 60"):
        assert len(opened(tmp_path / "some", on_bad="skip").train) == 58


def test_row_groups_are_held_up_to_a_limit(tmp_path: Path, pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "some", pictures, compression="snappy")
    sizes = [len(content) for _, _, content in pictures]
    most = sum(sizes[:7]) + sum(sizes[7:14]) + 50
    monkeypatch.setattr(groups, "HELD", most)
    with pytest.warns(
        LessonplanWarning, match=r"60 of 60 pictures .* lie packed in row groups .* compression='none'"
    ):
        data = opened(tmp_path / "some")
    reader = data.train.source.images.groups
    read, seen = reader._read, []
    monkeypatch.setattr(reader, "_read", lambda *which: seen.append(which) or read(*which))
    assert 0 < len(reader._groups) < 10  # what was measured of the pictures
    reader._groups.clear()
    data.train.raw(EVERY)
    assert len(seen) == 10  # each once, for they are read in the order in which they lie
    held = sum(len(content) for content, _ in reader._groups.values())
    assert 0 < held <= most
    seen.clear()
    data.train.raw(torch.tensor([0, 59, 1, 58]))
    assert len(seen) == 1  # the last one was held
    anew = pickle.loads(pickle.dumps(data.train.source))
    assert torch.equal(anew.read(EVERY), data.train.raw(EVERY))


def test_pictures_of_large_packed_row_groups_are_copied_once(
    tmp_path: Path, pictures, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "some", pictures, compression="snappy")
    expected = opened(tmp_path / "some", 2**30).train.raw(EVERY)
    monkeypatch.setattr(groups, "HELD", 100)
    for _ in range(2):
        with pytest.warns(LessonplanWarning, match=r"60 of 60 pictures .* were copied to .*copied, once"):
            data = opened(tmp_path / "some")
        assert torch.equal(data.train.raw(EVERY), expected)
    assert (data.train.source.images.index.columns["group"] == COPIED).all()
    (copy,) = own_cache.rglob("copied")
    assert copy.stat().st_size == sum(len(content) for _, _, content in pictures)
    copy.write_bytes(b"x")
    with pytest.raises(DataError, match="copied was changed since it was indexed"):
        data.train.raw(EVERY)
    with pytest.warns(LessonplanWarning, match="were copied"):
        assert torch.equal(opened(tmp_path / "some").train.raw(EVERY), expected)


def test_no_warning_where_all_row_groups_are_held(tmp_path: Path, pictures) -> None:
    write(tmp_path / "some", pictures, compression="snappy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(opened(tmp_path / "some").train) == PICTURES


@pytest.mark.parametrize("limit", [0, 2**30])
def test_files_of_different_schemas(tmp_path: Path, pictures, limit: int) -> None:
    write(tmp_path / "some", pictures, **PLAIN)
    second = tmp_path / "some" / "part-1.parquet"
    pq.write_table(pa.table({"picture": [b""], "label": ["ape"]}), second)
    with pytest.raises(DataError, match=r"part-1\.parquet has the columns picture, label: it needs"):
        opened(tmp_path / "some", limit)
    pq.write_table(pa.table({"image": ["text"], "label": ["ape"]}), second)
    with pytest.raises(DataError, match=r"part-1\.parquet: the image column holds string"):
        opened(tmp_path / "some", limit)
    pq.write_table(pa.table({"image": [[pictures[0][2]]], "label": ["ape"]}), second)
    with pytest.raises(DataError, match=r"part-1\.parquet: the .*column"):
        opened(tmp_path / "some", limit)
    pq.write_table(pa.table({"image": [pictures[0][2]], "label": [3]}), second)
    with pytest.raises(
        DataError, match=r"has the label 'ape' and part-1\.parquet row 0 has 3: give numbers everywhere"
    ):
        opened(tmp_path / "some", limit)
    pq.write_table(pa.table({"image": [pictures[0][2]], "label": [[1, 2]]}), second)
    with pytest.raises(DataError, match="not a class number or name"):
        opened(tmp_path / "some", limit)
    second.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"part-1\.parquet cannot be read as a parquet file"):
        opened(tmp_path / "some", limit)


def test_files_that_change(tmp_path: Path, pictures) -> None:
    for how in ("plain", "snappy"):
        write(tmp_path / how, pictures, **WRITTEN[how])
        data = opened(tmp_path / how)
        os.utime(tmp_path / how / "part-1.parquet", ns=(1, 1))
        with pytest.raises(DataError, match=r"part-1\.parquet was changed since it was indexed"):
            data.train.raw(EVERY)
        assert torch.equal(opened(tmp_path / how).train.raw(EVERY), opened(tmp_path / how, 2**30).train.raw(EVERY))


@pytest.mark.parametrize("spec", ["", "*/*.parquet", "{train,validation}/*.parquet"])
@pytest.mark.parametrize("limit", [0, 2**30])
def test_parts_by_folders(tmp_path: Path, pictures, spec: str, limit: int) -> None:
    for name, some in (("train", pictures[::2]), ("validation", pictures[1::2])):
        write(tmp_path / name, some, **PLAIN)
    data = opened(tmp_path / spec, limit)
    assert data.description["sizes"] == {"train": 30, "val": 0, "test": 30}
    assert data.class_names == CLASSES


def test_nothing_matches(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file matches .*\*\.parquet"):
        opened(tmp_path / "*.parquet")


def test_batches_of_worker_processes_from_row_groups(tmp_path: Path, pictures) -> None:
    write(tmp_path / "some", pictures, compression="snappy")
    data = opened(tmp_path / "some", workers=2)
    data.train.raw(EVERY)  # so that the workers are started by a process that has read
    batches = [torch.tensor(some) for some in np.random.default_rng(0).permutation(PICTURES).reshape(5, 12)]
    for (x, _), indices in zip(data.train.batches(batches), batches, strict=True):
        assert torch.equal(x, data.train.fetch(indices)[0])
    data.close()
