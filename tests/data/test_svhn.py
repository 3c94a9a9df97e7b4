"""SVHN's files as they are laid out: X is (32, 32, 3, N), and 10 stands for the digit 0."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from lessonplan import matlab
from lessonplan.data import limits, load
from lessonplan.data.base import Options
from lessonplan.data.svhn import from_svhn
from lessonplan.errors import DataError


def written(path: Path, count: int = 30, seed: int = 0, **replaced: object) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
    y = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
    savemat(path, {"X": x, "y": y, **replaced}, do_compression=True)
    return x, y


def test_a_folder(tmp_path: Path) -> None:
    x, y = written(tmp_path / "train_32x32.mat")
    written(tmp_path / "test_32x32.mat", 12, seed=1)
    data = load(str(tmp_path), val_fraction=0)
    assert data.class_names == tuple("0123456789")
    assert (len(data.train), len(data.test)) == (30, 12)
    source = from_svhn(tmp_path, Options()).train
    assert source.labels.tolist() == [int(v) % 10 for v in y[:, 0]]
    row, column = 7, 20
    picture = source.read(torch.tensor([4]))[0]
    assert picture.shape == (3, 32, 32)
    assert picture[:, row, column].tolist() == x[row, column, :, 4].tolist()


def test_one_file(tmp_path: Path) -> None:
    written(tmp_path / "extra_32x32.mat", 40)
    assert len(from_svhn(tmp_path / "extra_32x32.mat", Options()).train) == 40
    assert load(tmp_path / "extra_32x32.mat").shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        ({"y": np.zeros((30, 1))}, "from 0 to 0: SVHN has 1 to 10"),
        ({"y": np.ones((29, 1))}, "29 labels"),
        ({"X": np.zeros((30, 32, 32), np.uint8)}, r"SVHN has X of uint8"),
        ({"X": np.zeros((32, 32, 3, 30))}, r"float64 \(32, 32, 3, 30\)"),
    ],
)
def test_other_contents(tmp_path: Path, replaced: dict[str, object], says: str) -> None:
    written(tmp_path / "train_32x32.mat", **replaced)
    with pytest.raises(DataError, match=says):
        from_svhn(tmp_path, Options())


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train_32x32.mat"
    with pytest.raises(DataError, match="does not exist"):
        from_svhn(tmp_path, Options())
    savemat(path, {"a": np.ones(3)})
    with pytest.raises(DataError, match="holds a: SVHN's files hold X and y"):
        from_svhn(tmp_path, Options())
    written(path)
    with pytest.raises(DataError, match="memory_limit"):
        from_svhn(tmp_path, Options(memory_limit=1000))
    whole = path.read_bytes()
    for length in (0, 50, 130, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"damaged|hold"):
            from_svhn(tmp_path, Options())
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    with pytest.raises(DataError, match=r"7\.3|damaged"):
        from_svhn(tmp_path, Options())
    monkeypatch.setattr(limits, "_ALLOWED", 2**20)
    savemat(path, {"X": np.zeros((32, 32, 3, 4_000), np.uint8), "y": np.ones(4_000)}, do_compression=True)
    with pytest.raises(DataError, match="decompression bomb"):
        from_svhn(tmp_path, Options())


@pytest.mark.parametrize(
    "before",
    [
        "",
        "print(json.dumps({'announced': {'X': [1], 'y': [1]}}), flush=True); input()",
        "print(json.dumps({'announced': {'X': [1], 'y': [1]}})); print(json.dumps({'sent': ['X']}), flush=True)",
    ],
)
def test_a_reader_that_crashes_takes_nobody_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """SciPy's does, by a segmentation fault, where some bytes of a file are changed."""
    written(tmp_path / "train_32x32.mat")
    monkeypatch.setattr(matlab, "CODE", f"import json, os; {before}\nos.kill(os.getpid(), 11)")
    with pytest.raises(DataError, match="its reader crashed"):
        from_svhn(tmp_path, Options())
