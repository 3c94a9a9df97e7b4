"""Street View House Numbers, 32 x 32: MATLAB files (Netzer et al., NIPS workshop 2011)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from lessonplan.data.arrays import TensorSource, to_samples
from lessonplan.data.base import Options, Parts
from lessonplan.data.limits import check_fits, check_ratio
from lessonplan.errors import DataError
from lessonplan.matlab import Announced, read_matlab

_NEEDED = {"X", "y"}
_DIGITS = tuple("0123456789")


def from_svhn(path: Path, options: Options) -> Parts:
    """Sources from a folder with ``train_32x32.mat`` (and ``test_32x32.mat``), or from one such file.

    Raises:
        DataError: missing or damaged files, or others.
    """
    if path.is_file():
        return Parts(_source(path, options.memory_limit))
    train, test = path / "train_32x32.mat", path / "test_32x32.mat"
    if not train.is_file():
        raise DataError(
            f"{train} does not exist: give the folder of SVHN's train_32x32.mat, or a file of that kind"
        )
    return Parts(
        _source(train, options.memory_limit),
        _source(test, options.memory_limit) if test.is_file() else None,
    )


def _source(file: Path, memory_limit: int) -> TensorSource:
    """The images ``X`` of ``(32, 32, 3, N)`` and their digits ``y``, of which 10 stands for 0."""
    x, y = _arrays(file, memory_limit)
    if x.ndim != 4 or x.shape[2] != 3 or x.dtype != np.uint8 or x.shape[3] != y.size:
        raise DataError(
            f"{file} holds X of {x.dtype} {x.shape} and {y.size} labels y: SVHN has X of uint8 (32, 32, 3, N)"
        )
    digits = y.reshape(-1).astype(np.int64)
    if digits.size and not (digits.min() >= 1 and digits.max() <= 10):
        raise DataError(
            f"{file} has labels from {digits.min()} to {digits.max()}: SVHN has 1 to 10, where 10 is 0"
        )
    return TensorSource(to_samples(x.transpose(3, 0, 1, 2)), torch.from_numpy(digits % 10), _DIGITS)


def _arrays(file: Path, memory_limit: int) -> tuple[np.ndarray, np.ndarray]:
    def check(announced: Announced) -> None:
        if not announced.keys() >= _NEEDED:
            names = ", ".join(sorted(announced)) or "nothing"
            raise DataError(f"{file} holds {names}: SVHN's files hold X and y")
        unpacked = sum(math.prod(shape) for shape in announced.values())
        check_fits(file, unpacked, memory_limit)
        check_ratio(file, unpacked, file.stat().st_size)

    read = read_matlab(file, sorted(_NEEDED), check)
    return read["X"], read["y"]
