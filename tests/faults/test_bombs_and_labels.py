"""Small files that announce much, labels that no class has, and long metrics: refused or bounded, and said."""

from __future__ import annotations

import gzip
import io
import json
import math
import pickle
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lessonplan.data import limits, load
from lessonplan.data.safe_pickle import load_plain
from lessonplan.errors import ConfigError, DataError
from lessonplan.files import read_json_lines, read_some_json_lines
from lessonplan.report.reading import MOST_LINES, read_run
from lessonplan.report.render import render
from lessonplan.report.run import run_context

MIB = 2**20


def _peak() -> int:
    """Bytes that the process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _npz(path: Path, shape: tuple[int, ...], content: int, labels: int) -> None:
    """An archive of zeros whose header announces a shape, of ``content`` bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    y = io.BytesIO()
    np.save(y, np.arange(labels) % 2)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            file.write(header.getvalue())
            for _ in range(content // 2**20):
                file.write(bytes(2**20))
        archive.writestr("y.npy", y.getvalue())


def test_an_npz_that_unpacks_past_the_limit(tmp_path: Path) -> None:
    _npz(tmp_path / "bomb.npz", (48, 1024, 1024), 48 * MIB, 48)
    assert (tmp_path / "bomb.npz").stat().st_size < MIB
    before = _peak()
    with pytest.raises(DataError, match=r"unpacks to 503\d{5} bytes, and 2097152 are allowed: raise memory_limit"):
        load(f"npz:{tmp_path / 'bomb.npz'}", memory_limit=2 * MIB)
    assert _peak() - before < 24 * MIB


@pytest.mark.parametrize("shape", [(2**34,), (2**50, 8, 8), (2**62, 2**62), (10, 8, 9)])
def test_an_npz_whose_header_lies(tmp_path: Path, shape: tuple[int, ...]) -> None:
    _npz(tmp_path / "lies.npz", shape, 0, 10)
    with pytest.raises(DataError, match=r"cannot be read as an \.npz file"):
        load(f"npz:{tmp_path / 'lies.npz'}")


def _idx(shape: tuple[int, ...]) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def test_idx_files_that_announce_much(tmp_path: Path) -> None:
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(_idx((48,)) + bytes(48))
    images = tmp_path / "train-images-idx3-ubyte.gz"
    much, little = (gzip.compress(_idx((48, side, side)) + bytes(48 * MIB), 1) for side in (1024, 2))
    before = _peak()
    images.write_bytes(much)
    with pytest.raises(DataError, match=r"2097152 are allowed"):
        load(f"idx:{tmp_path}", memory_limit=2 * MIB)
    images.write_bytes(little)  # says little, holds much
    with pytest.raises(DataError, match="209 bytes or more where its header asks for 208"):
        load(f"idx:{tmp_path}")
    assert _peak() - before < 24 * MIB
    images.write_bytes(gzip.compress(_idx((1,) * 70)))
    with pytest.raises(DataError, match="asks for 70 axes"):
        load(f"idx:{tmp_path}")


def test_a_parquet_file_that_holds_one_large_picture_very_often(tmp_path: Path, monkeypatch) -> None:
    """It is let go of long before its end."""
    monkeypatch.setattr(limits, "_ALLOWED", MIB)
    image = pa.array([b"x" * 2**14] * 4_000, pa.binary()).dictionary_encode()
    pq.write_table(pa.table({"image": image, "label": [0, 1] * 2_000}), tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < MIB
    before = _peak()
    with pytest.raises(DataError, match=r"decompression bomb|holds dictionary<"):
        load(f"parquet:{tmp_path / 'bomb.parquet'}")
    assert _peak() - before < 40 * MIB


def test_a_zip_of_silence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "_ALLOWED", MIB)
    with zipfile.ZipFile(tmp_path / "silence.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for i in range(3):
            archive.writestr(f"a/{i}.wav", bytes(10 * MIB))
    with pytest.raises(DataError, match="decompression bomb"):
        load(f"wav:{tmp_path / 'silence.zip'}")
    limits.check_ratio(tmp_path, MIB // 2, 10)  # small ones may
    limits.check_ratio(tmp_path, 40_000 * MIB, 1000 * MIB)


def test_a_pickle_of_dictionaries_in_each_other(tmp_path: Path) -> None:
    """Each holds the one before twice: written out there would be 2 to the power of 60."""
    inner: dict[Any, Any] = {}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    inner["self"] = inner
    (tmp_path / "meta").write_bytes(pickle.dumps(inner, protocol=2))
    assert set(load_plain(tmp_path / "meta")) == {"a", "b", "self"}


@pytest.mark.parametrize("numbered", [b"r" + struct.pack("<I", 2**27), b"p134217728\n"])
def test_a_pickle_that_numbers_an_object_beyond_its_length_is_refused(tmp_path: Path, numbered: bytes) -> None:
    """The unpickler would make room for as many: 2 GiB here, 64 with the largest number (found by libFuzzer)."""
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}" + numbered + b".")
    before = _peak()
    with pytest.raises(DataError, match="object number 134217728 begins at byte 3"):
        load_plain(tmp_path / "data_batch_1")
    assert _peak() - before < 100 * MIB
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"a": [b"x" * 300, [1] * 300]}, protocol))
        assert load_plain(tmp_path / "data_batch_1") == {"a": [b"x" * 300, [1] * 300]}


@pytest.mark.parametrize("limit", [-1, 1.5, True, "2GB", None])
def test_memory_limits_that_cannot_be(limit: Any) -> None:
    with pytest.raises(ConfigError, match="memory_limit"):
        load("digits", memory_limit=limit)


def test_the_memory_limit_of_the_command_line(tmp_path: Path, said) -> None:
    np.savez(
        tmp_path / "set.npz",
        x=np.random.default_rng(0).integers(0, 255, (400, 64, 64)).astype(np.uint8),
        y=np.arange(400) % 2,
    )
    options = ["train", "--data", tmp_path / "set.npz", "--model", "fcnet-8", "--budget", "1 steps"]
    code, errors = said(*options, "--out", tmp_path / "a", "--memory-limit", "0.001")
    assert (code, errors.count("\n")) == (2, 1)
    assert "1073742 are allowed: raise --memory-limit (on the command line in GiB)" in errors
    assert said(*options, "--out", tmp_path / "a", "--memory-limit", "0.01") == (0, "")
    assert "give GiB" in said(*options, "--out", tmp_path / "b", "--memory-limit", "nan")[1]


X = np.random.default_rng(0).integers(0, 255, (40, 4, 4)).astype(np.uint8)


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (np.inf, r"sample 3 has no label \(inf\)"),
        (np.nan, r"sample 3 has no label \(nan\)"),
        (1e200, r"sample 3 has the label 1e\+200: give class numbers of at most 15 digits"),
        (-(2.0**60), "at most 15 digits"),
        (10**30, "at most 15 digits"),
        (10**400, "hundreds of digits"),
        (0.5, "fractions"),
    ],
)
def test_labels_that_no_class_has(label: Any, says: str) -> None:
    """Before, infinity was a class of its own, and all numbers beyond int64 were one."""
    y: list[Any] = [i % 2 for i in range(40)]
    y[3] = label
    with pytest.raises(DataError, match=says):
        load((X, y))


def test_large_labels_that_can_be_told_apart() -> None:
    y = [2**52 + i % 2 for i in range(40)]
    assert load((X, y)).class_names == (str(2**52), str(2**52 + 1))
    assert load((X, np.array(y, np.float64))).class_names == (str(2**52), str(2**52 + 1))


def test_arrays_that_numpy_does_not_know() -> None:
    y = [i % 2 for i in range(40)]
    sparse = torch.zeros(40, 4, 4).to_sparse()
    with pytest.raises(DataError, match="cannot be used as an array of numbers"):
        load((sparse, y))
    half = torch.rand(40, 6).bfloat16()
    assert torch.equal(load((half, y), test_fraction=0).train.raw(torch.arange(40)), half.float())


CIFAR = {b"data": np.zeros((10, 3072), np.uint8), b"labels": list(range(10))}


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("data_batch_1", {b"labels": [10**30] * 10}),
        ("data_batch_1", {b"labels": [-1] * 10}),
        ("batches.meta", {b"label_names": 7}),
    ],
)
def test_cifar_files_of_odd_content(tmp_path: Path, file: str, change: dict[bytes, Any]) -> None:
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "batches.meta"):
        content = {**CIFAR, b"label_names": [b"x"] * 10, **(change if name == file else {})}
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=file):
        load(f"cifar:{tmp_path}")


def _metrics(path: Path, lines: int, judged: int) -> None:
    with path.open("w") as file:
        for i in range(lines):
            val = {"val": {"accuracy": 0.5, "loss": 1.0}} if i % judged == 0 else {}
            record = {"epoch": i, "cost": 3 * i, "samples": i, "train": {"loss": 1.0, "accuracy": 0.5}, **val}
            file.write(json.dumps(record) + "\n")


@pytest.mark.parametrize("lines", [0, 1, 7, 8, 9, 16, 17, 100, 1000])
@pytest.mark.parametrize("judged", [1, 3, 50])
def test_lines_at_equal_distances(tmp_path: Path, lines: int, judged: int) -> None:
    path = tmp_path / "metrics.jsonl"
    records = [{"epoch": i, **({"val": {}} if i % judged == 0 else {})} for i in range(lines)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"epoch": 1')
    found, counted = read_some_json_lines(path, 8)
    assert counted == lines + 1  # with the one that a killed run left unfinished
    known = [record["epoch"] for record in found]
    assert known == sorted(set(known))
    assert all(record == records[record["epoch"]] for record in found)
    every = next(2**i for i in range(20) if math.ceil(counted / 2**i) <= 8)
    rare = next(2**i for i in range(20) if math.ceil(math.ceil(lines / judged) / 2**i) <= 8)
    assert set(known) == set(range(0, lines, every)) | set(range(0, lines, judged * rare))


def test_long_metrics_are_read_at_equal_distances(tmp_path: Path, monkeypatch) -> None:
    """The first and the last line, and rare validations, which the distances would miss, are among them."""
    _metrics(tmp_path / "metrics.jsonl", 9_001, 1001)
    run = read_run(tmp_path)
    assert run.lines == 9_001
    assert MOST_LINES / 2 < len(run.epochs) <= MOST_LINES + 10
    assert [run.epochs[0]["epoch"], run.epochs[-1]["epoch"]] == [0, 9_000]
    assert len(run.curve("val", "loss")[0]) == 9
    assert [e["epoch"] for e in run.epochs] == sorted({e["epoch"] for e in run.epochs})
    assert len(read_json_lines(tmp_path / "metrics.jsonl")) == 9_001
    assert len(read_json_lines(tmp_path / "metrics.jsonl", containing=b'"val": ')) == 9
    monkeypatch.setattr("lessonplan.report.run._curve_panels", lambda run: [])
    page = render("run.html", run_context(run))
    assert f"Curves are drawn from {len(run.epochs):,} of 9,001 records" in page


def test_short_metrics_are_read_whole_and_nothing_is_said(tmp_path: Path, monkeypatch) -> None:
    _metrics(tmp_path / "metrics.jsonl", 50, 3)
    monkeypatch.setattr("lessonplan.report.run._curve_panels", lambda run: [])
    run = read_run(tmp_path)
    assert len(run.epochs) == 50
    assert "Curves are drawn from" not in render("run.html", run_context(run))


def test_torn_and_damaged_lines(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"a": 1}\n{"a"\n[1]\n\n\xff\n{"a": 2}\n{"a": 3')
    with pytest.warns(match="left out 2 damaged lines"):
        assert read_json_lines(file) == [{"a": 1}, {"a": 2}]
    file.write_bytes(b"[" * 200_000 + b"\n" + b'{"a": 1}\n')
    with pytest.warns(match="left out 1 damaged lines"):
        assert read_json_lines(file) == [{"a": 1}]
