"""IDX files: plain, gzipped, alone, and broken in every way."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from lessonplan.data import load
from lessonplan.errors import DataError

RNG = np.random.default_rng(2)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, start: str, n: int, zipped: bool, dot: bool = False) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (n, 5, 4), dtype=np.uint8)
    joint, end = ("." if dot else "-"), (".gz" if zipped else "")
    for name, array in (("images", pixels), ("labels", np.arange(n, dtype=np.uint8) % 3)):
        raw = idx(array)
        path = folder / f"{start}-{name}{joint}idx{array.ndim}-ubyte{end}"
        path.write_bytes(gzip.compress(raw) if zipped else raw)
    return pixels


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_train_and_t10k(tmp_path, zipped, dot):
    train, test = (write(tmp_path, s, n, zipped, dot) for s, n in (("train", 9), ("t10k", 6)))
    for data in (load(f"idx:{tmp_path}"), load(tmp_path)):
        assert np.array_equal(data.train.raw(torch.arange(9))[:, 0].numpy(), train)
        assert np.array_equal(data.test.raw(torch.arange(6))[:, 0].numpy(), test)
        assert data.train.labels.tolist() == [0, 1, 2] * 3
        assert data.shape == (1, 5, 4)


def test_t10k_alone_and_both_forms(tmp_path):
    write(tmp_path, "t10k", 12, zipped=False)
    for file in list(tmp_path.iterdir()):
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (6, 6)
    assert len(load(tmp_path / "t10k-images-idx3-ubyte", test_fraction=0).train) == 12


def test_broken_files(tmp_path):
    write(tmp_path, "train", 9, zipped=False)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    whole = images.read_bytes()
    cases = [
        (whole[:-3], r"193 bytes where its header asks for 196"),
        (whole + b"x", r"197 bytes or more where its header asks for 196"),
        (b"<html>", r"no IDX file"),
        (b"", r"no IDX file"),
        (whole[:6], r"6 bytes where"),
        (gzip.compress(whole)[:-20], r"damaged gzip"),
        (idx(np.zeros((9, 2, 2), dtype=">f4"), kind=0x0D), r"type 0x0d"),
        (idx(np.zeros((8, 5, 4), dtype=np.uint8)), r"\(8, 5, 4\).*\(9,\)"),
    ]
    for content, says in cases:
        images.write_bytes(content)
        with pytest.raises(DataError, match=says):
            load(tmp_path)
    labels.unlink()
    with pytest.raises(DataError, match="no labels file"):
        load(tmp_path)
    images.unlink()
    with pytest.raises(DataError, match="no images file"):
        load(f"idx:{tmp_path}")
    with pytest.raises(DataError, match="does not exist"):
        load(f"idx:{tmp_path / 'nowhere'}")
