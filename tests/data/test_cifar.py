"""CIFAR folders, Python and binary; pickles that would run code do not."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from lessonplan.data import load
from lessonplan.data.safe_pickle import load_plain
from lessonplan.errors import DataError

RNG = np.random.default_rng(3)
N = 20


def batch(n=N, classes=10):
    return RNG.integers(0, 256, (n, 3072), dtype=np.uint8), [i % classes for i in range(n)]


def dump(path: Path, content, protocol=2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def python10(root: Path, protocol: int = 2) -> list[np.ndarray]:
    """CIFAR-10 in the Python version: keys are bytes, as Python 2's strings are when read today."""
    pixels = []
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        x, y = batch()
        dump(root / name, {b"batch_label": b"", b"labels": y, b"data": x, b"filenames": [b"a.png"] * N}, protocol)
        pixels.append(x)
    dump(root / "batches.meta", {b"label_names": [f"name{i}".encode() for i in range(10)]}, protocol)
    return pixels


def binary10(root: Path) -> list[np.ndarray]:
    root.mkdir(parents=True, exist_ok=True)
    pixels = []
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
        x, y = batch()
        np.concatenate([np.array(y, dtype=np.uint8)[:, None], x], axis=1).tofile(root / name)
        pixels.append(x)
    (root / "batches.meta.txt").write_text("\n".join(f"name{i}" for i in range(10)) + "\n\n")
    return pixels


def check(data, pixels, classes=10) -> None:
    train, test = np.concatenate(pixels[:-1]), pixels[-1]
    assert np.array_equal(data.train.raw(torch.arange(len(train))).numpy().reshape(-1, 3072), train)
    assert np.array_equal(data.test.raw(torch.arange(len(test))).numpy().reshape(-1, 3072), test)
    assert data.train.labels[:N].tolist() == [i % classes for i in range(N)]
    assert data.shape == (3, 32, 32)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_cifar10_python(tmp_path, protocol):
    pixels = python10(tmp_path / "cifar-10-batches-py", protocol)
    for where in (tmp_path, tmp_path / "cifar-10-batches-py"):
        data = load(f"cifar:{where}")
        check(data, pixels)
        assert data.class_names[3] == "name3"


def test_cifar10_binary(tmp_path):
    pixels = binary10(tmp_path)
    data = load(tmp_path)
    check(data, pixels)
    assert data.class_names[9] == "name9"


def test_cifar100_python_has_fine_labels(tmp_path):
    pixels = []
    for name in ("train", "test"):
        x, y = batch(200, classes=100)
        dump(tmp_path / name, {b"data": x, b"fine_labels": y, b"coarse_labels": [0] * 200})
        pixels.append(x)
    dump(tmp_path / "meta", {b"fine_label_names": [f"fine{i}".encode() for i in range(100)]})
    data = load(tmp_path)
    check(data, pixels, classes=100)
    assert data.class_names[42] == "fine42"


def test_cifar100_binary_has_fine_labels(tmp_path):
    pixels = []
    for name in ("train.bin", "test.bin"):
        x, y = batch(200, classes=100)
        heads = np.stack([np.zeros(200, dtype=np.uint8), np.array(y, dtype=np.uint8)], axis=1)
        np.concatenate([heads, x], axis=1).tofile(tmp_path / name)
        pixels.append(x)
    data = load(f"cifar:{tmp_path}")
    check(data, pixels, classes=100)
    assert data.class_names[99] == "99"


class Evil:
    def __init__(self, run, *args):
        self.run, self.args = run, args

    def __reduce__(self):
        return self.run, self.args


@pytest.mark.parametrize("how", ["system", "eval", "import", "numpy", "state"])
def test_a_malicious_pickle_runs_nothing(tmp_path, how):
    python10(tmp_path)
    proof = tmp_path / "executed"
    evil = {
        "system": Evil(os.system, f"touch {proof}"),
        "eval": Evil(eval, f"open({str(proof)!r}, 'w')"),
        "import": Evil(__import__, "os"),
        "numpy": Evil(np.fromfile, str(tmp_path / "batches.meta")),
    }
    content = b"cnumpy.core.multiarray\n_reconstruct\n}S'make'\nI1\nsb." if how == "state" else None
    target = tmp_path / "data_batch_3"
    target.write_bytes(content or pickle.dumps({b"data": evil[how], b"labels": []}, protocol=2))
    with pytest.raises(DataError, match=r"data_batch_3 is damaged or holds more than plain data"):
        load(f"cifar:{tmp_path}")
    assert not proof.exists()


def test_other_arrays_and_nonsense_are_refused(tmp_path):
    path = tmp_path / "x"
    for content in (np.zeros(3), np.array([object()]), np.zeros((2, 2), dtype=np.int64)):
        dump(path, {"data": content})
        with pytest.raises(DataError):
            load_plain(path)
    for raw in (b"", b"garbage", pickle.dumps({"a": 1})[:-3]):
        path.write_bytes(raw)
        with pytest.raises(DataError):
            load_plain(path)
    dump(path, {b"a": [1, "two", 3.0, None, (4, b"5")]})
    assert load_plain(path) == {"a": [1, "two", 3.0, None, (4, b"5")]}


def test_broken_folders(tmp_path):
    (tmp_path / "cifar.tar.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="unpack the archive first"):
        load(f"cifar:{tmp_path / 'cifar.tar.gz'}")
    root = tmp_path / "a"
    binary10(root)
    raw = (root / "data_batch_2.bin").read_bytes()
    (root / "data_batch_2.bin").write_bytes(raw[:-1])
    with pytest.raises(DataError, match=r"data_batch_2.bin has 61459 bytes"):
        load(f"cifar:{root}")
    (root / "data_batch_2.bin").write_bytes(bytes([77]) + raw[1:])
    with pytest.raises(DataError, match=r"labels outside 0\.\.9"):
        load(f"cifar:{root}")
    (root / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_2.bin"):
        load(f"cifar:{root}")
    python10(tmp_path / "p")
    dump(tmp_path / "p" / "data_batch_1", {b"data": np.zeros((2, 3), dtype=np.uint8), b"labels": [0, 1]})
    with pytest.raises(DataError, match="no CIFAR batch"):
        load(f"cifar:{tmp_path / 'p'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no CIFAR files .*found nothing"):
        load(f"cifar:{tmp_path / 'empty'}")
