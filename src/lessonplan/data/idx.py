"""MNIST's IDX files, plain or gzipped (http://yann.lecun.com/exdb/mnist, section "file format")."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lessonplan.data.arrays import TensorSource, to_samples
from lessonplan.data.base import Options, Parts
from lessonplan.data.labels import to_labels
from lessonplan.data.limits import check_fits
from lessonplan.errors import DataError

_UNSIGNED_BYTE = 0x08
_MOST_AXES = 4
_LONGEST_HEADER = 4 + 4 * _MOST_AXES


def from_idx(path: Path, options: Options) -> Parts:
    """Sources from a folder of IDX files (test files beside training files are the test set) or an images file.

    Raises:
        DataError: missing, truncated or other files.
    """
    if path.is_file():
        return Parts(_source(path, options))
    if not path.is_dir():
        raise DataError(f"{path} does not exist: give a folder with IDX files such as train-images-idx3-ubyte.gz")
    found = sorted(p for p in path.iterdir() if "images" in p.name and "ubyte" in p.name)
    # An unpacked file beside its archive is the same set.
    files = [p for p in found if p.suffix != ".gz" or p.with_suffix("") not in found]
    train = [p for p in files if "train" in p.name]
    test = [p for p in files if "t10k" in p.name or "test" in p.name]
    if max(len(train), len(test)) > 1 or len(files) > len(train) + len(test):
        raise DataError(f"{path} holds several sets ({', '.join(p.name for p in files)}): give one images file")
    if not files:
        raise DataError(f"{path} holds no images file of the IDX kind, such as train-images-idx3-ubyte.gz")
    if not train:
        return Parts(_source(test[0], options))
    return Parts(_source(train[0], options), _source(test[0], options) if test else None)


def _source(images: Path, options: Options) -> TensorSource:
    """An images file with the labels file beside it."""
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    bare = name[: -len(".gz")] if name.endswith(".gz") else name
    beside = [images.with_name(n) for n in (name, bare, bare + ".gz")]
    labels = next((p for p in beside if p.is_file()), None)
    if "images" not in images.name or labels is None:
        raise DataError(f"{images} has no labels file beside it (looked for {name})")
    x, y = (read_idx(file, options.memory_limit) for file in (images, labels))
    if x.ndim < 3 or y.ndim != 1 or len(x) != len(y):
        raise DataError(
            f"{images} holds an array {x.shape} and {labels.name} one {y.shape}: not images with labels"
        )
    return TensorSource(to_samples(x), *to_labels(y))


def read_idx(path: Path, memory_limit: int = Options.memory_limit) -> npt.NDArray[np.uint8]:
    """One IDX file of unsigned bytes.

    Args:
        path: the file, plain or gzipped.
        memory_limit: bytes that it may unpack to.

    Raises:
        DataError: no IDX file, another type of values, another length than the header says, or more than is
            allowed.
    """
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            raw = file.read(_LONGEST_HEADER)
            start, shape, expected = _header(raw, path)
            check_fits(path, expected, memory_limit)
            raw += file.read(max(0, expected + 1 - len(raw)))
    except (OSError, EOFError, zlib.error) as e:
        what = "is a damaged gzip file" if packed else "cannot be read"
        raise DataError(f"{path} {what} ({e}): fetch it again") from e
    if len(raw) != expected:
        more = " or more" if len(raw) > expected else ""
        raise DataError(f"{path} has {len(raw)} bytes{more} where its header asks for {expected}: fetch it again")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def _header(raw: bytes, path: Path) -> tuple[int, tuple[int, ...], int]:
    """Where the values begin, their shape, and how long the file is then."""
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[3] == 0:
        raise DataError(f"{path} is no IDX file: it starts with {raw[:4].hex(' ') or 'nothing'}, not 00 00 08")
    if raw[2] != _UNSIGNED_BYTE:
        raise DataError(f"{path} holds values of IDX type {raw[2]:#04x}; only unsigned bytes (0x08) are supported")
    start = 4 + 4 * raw[3]
    if raw[3] > _MOST_AXES or len(raw) < start:
        raise DataError(f"{path} has {len(raw)} bytes where its header asks for {raw[3]} axes: fetch it again")
    shape = tuple(np.frombuffer(raw[4:start], dtype=">u4").tolist())
    return start, shape, start + math.prod(shape)
