"""CIFAR-10 and CIFAR-100 folders as they are downloaded, the Python and the binary version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lessonplan.data.arrays import TensorSource
from lessonplan.data.base import Parts
from lessonplan.data.labels import writable
from lessonplan.data.safe_pickle import load_plain
from lessonplan.errors import DataError

_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_LONGEST_LIST = 2**20  # bytes of a list of class names
Read = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Version:
    """The files of one version of one set."""

    train: tuple[str, ...]
    test: str
    names: str
    classes: int
    binary: bool


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_VERSIONS = (
    Version(_BATCHES, "test_batch", "batches.meta", 10, binary=False),
    Version(tuple(f"{b}.bin" for b in _BATCHES), "test_batch.bin", "batches.meta.txt", 10, binary=True),
    Version(("train",), "test", "meta", 100, binary=False),
    Version(("train.bin",), "test.bin", "fine_label_names.txt", 100, binary=True),
)
_USUAL = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary")


def from_cifar(path: Path) -> Parts:
    """Sources from a CIFAR folder (or the folder around it); CIFAR-100 with its 100 fine labels.

    Raises:
        DataError: missing, damaged or truncated files. Pickles are read without running code.
    """
    if not path.is_dir():
        hint = ": unpack the archive first" if path.is_file() else ""
        raise DataError(f"{path} does not exist or is no folder{hint}")
    inside = [path / name for name in _USUAL if (path / name).is_dir()]
    if len(inside) > 1:
        raise DataError(f"{path} holds several sets ({', '.join(p.name for p in inside)}): give one of them")
    root = inside[0] if inside else path
    version = next((v for v in _VERSIONS if any((root / f).is_file() for f in (*v.train, v.test))), None)
    if version is None:
        found = ", ".join(sorted(p.name for p in root.iterdir())[:5]) or "nothing"
        raise DataError(f"{root} holds no CIFAR files such as data_batch_1 or data_batch_1.bin (found {found})")
    missing = [f for f in version.train if not (root / f).is_file()]
    if missing:
        raise DataError(f"{root} lacks {', '.join(missing)}: unpack the archive again")
    names = _class_names(root, version)
    train = _source([_read(root / f, version) for f in version.train], names, root)
    test = root / version.test
    return Parts(train, _source([_read(test, version)], names, root) if test.is_file() else None)


def _source(parts: Sequence[Read], names: tuple[str, ...], root: Path) -> TensorSource:
    pixels = torch.from_numpy(np.concatenate([p[0] for p in parts])).view(-1, *_SHAPE)
    labels = torch.from_numpy(np.concatenate([p[1] for p in parts]))
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
        raise DataError(f"{root} has labels outside 0..{len(names) - 1}: the files are damaged")
    return TensorSource(pixels, labels, names)


def _read(path: Path, version: Version) -> Read:
    """Pixels ``(N, 3072)`` and labels ``(N,)`` of one file."""
    return _read_binary(path, version) if version.binary else _read_python(path, version)


def _read_binary(path: Path, version: Version) -> Read:
    # A record is one label byte (CIFAR-100: coarse, then fine) and 3,072 pixel bytes, channel by channel.
    heads = 1 if version.classes == 10 else 2
    raw = np.fromfile(path, dtype=np.uint8)
    if len(raw) == 0 or len(raw) % (heads + _PIXELS):
        raise DataError(
            f"{path} has {len(raw)} bytes, no multiple of a record's {heads + _PIXELS}: fetch it again"
        )
    records = raw.reshape(-1, heads + _PIXELS)
    return np.ascontiguousarray(records[:, heads:]), records[:, heads - 1].astype(np.int64)


def _read_python(path: Path, version: Version) -> Read:
    content = load_plain(path)
    key = "labels" if version.classes == 10 else "fine_labels"
    pixels: Any = content.get("data") if isinstance(content, dict) else None
    labels: Any = content.get(key) if isinstance(content, dict) else None
    if (
        not isinstance(pixels, np.ndarray)
        or not isinstance(labels, list)
        or pixels.shape != (len(labels), _PIXELS)
    ):
        raise DataError(f"{path} is no CIFAR batch: it must hold 'data' (N x {_PIXELS} bytes) and N '{key}'")
    if not all(isinstance(label, int) for label in labels):
        raise DataError(f"{path} has labels that are no integers")
    if any(not 0 <= label < version.classes for label in labels):
        raise DataError(f"{path} has labels outside 0..{version.classes - 1}: the file is damaged")
    return np.ascontiguousarray(pixels), np.array(labels, dtype=np.int64)


def _class_names(root: Path, version: Version) -> tuple[str, ...]:
    """Names from the set's own list; without the list, CIFAR-10's known ones or numbers."""
    path = root / version.names
    names: list[str] = []
    if path.is_file() and version.binary:
        text = path.read_bytes()[:_LONGEST_LIST].decode("utf-8", "backslashreplace")
        names = [line.strip() for line in text.splitlines() if line.strip()]
    elif path.is_file():
        content = load_plain(path)
        key = "label_names" if version.classes == 10 else "fine_label_names"
        listed = content.get(key, []) if isinstance(content, dict) else []
        if not isinstance(listed, list):
            raise DataError(f"{path} holds no list of class names: fetch it again")
        names = [n.decode("latin1") if isinstance(n, bytes) else writable(str(n)) for n in listed]
    if len(names) == version.classes:
        return tuple(names)
    return _CIFAR10 if version.classes == 10 else tuple(str(i) for i in range(version.classes))
