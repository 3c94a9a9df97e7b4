"""The kinds of data: a new one is a file that reads it and a row here. Plain Python, for --help and checks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_ENDINGS = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jfif"}
)
SOUND_ENDINGS = frozenset({".wav"})


_TAR = re.compile(r"\.(tar(\.(gz|bz2|xz|zst|Z))?|tgz|tbz2?|txz)$", re.IGNORECASE)


def _never(path: Path, names: Sequence[str]) -> bool:
    del path, names
    return False


@dataclass(frozen=True)
class Kind:
    """Data of one kind.

    Attributes:
        spelling: how they are named: ``"digits"``, ``"table:NAME"``, ``"npz:PATH"``.
        home: ``module:function`` in this package. The function takes what stands behind the colon (a path where
            the spelling says PATH or PATTERN), and ``options`` where it names them, and gives ``Parts``.
        lies_at: whether such data are at a path; ``names`` are the entries of a folder, none for a file.
    """

    spelling: str
    home: str
    lies_at: Callable[[Path, Sequence[str]], bool] = _never

    @property
    def name(self) -> str:
        """What stands before the colon."""
        return self.spelling.partition(":")[0]

    @property
    def takes(self) -> str:
        """What stands behind the colon: PATH, PATTERN (a path, perhaps with wildcards), NAME or nothing."""
        return self.spelling.partition(":")[2]

    @property
    def takes_path(self) -> bool:
        """Whether data of this kind are files."""
        return self.takes in ("PATH", "PATTERN")


def _npz(path: Path, names: Sequence[str]) -> bool:
    return not names and path.suffix == ".npz"


def _cifar(path: Path, names: Sequence[str]) -> bool:
    del path
    return any(name.startswith(("data_batch", "test_batch", "cifar-1")) for name in names) or "meta" in names


def _idx(path: Path, names: Sequence[str]) -> bool:
    return any("-ubyte" in name for name in (names or [path.name]))


def _parquet(path: Path, names: Sequence[str]) -> bool:
    return any(name.endswith(".parquet") for name in (names or [path.name]))


def _tar(path: Path, names: Sequence[str]) -> bool:
    if any((path / name).is_dir() for name in names):  # a download that lies beside what was unpacked of it
        return False
    return any(_TAR.search(name) is not None for name in (names or [path.name]))


def _lmdb(path: Path, names: Sequence[str]) -> bool:
    return "data.mdb" in (names or [path.name]) or any((path / name / "data.mdb").is_file() for name in names)


def _svhn(path: Path, names: Sequence[str]) -> bool:
    return any(name.endswith("_32x32.mat") for name in (names or [path.name]))


def _csv(path: Path, names: Sequence[str]) -> bool:
    return "train.csv" in names if names else path.suffix.lower() in {".csv", ".tsv", ".data"}


def _wav(path: Path, names: Sequence[str]) -> bool:
    if not names:
        return path.suffix.lower() == ".zip"
    if "testing_list.txt" in names or any(Path(name).suffix.lower() in SOUND_ENDINGS for name in names):
        return True
    return Path(_first_sample(path)).suffix.lower() in SOUND_ENDINGS


def _folder(path: Path, names: Sequence[str]) -> bool:
    return any((path / name).is_dir() for name in names)


def _first_sample(path: Path) -> str:
    """The name of the first image or recording found below a folder, or nothing."""
    for _, folders, files in os.walk(path, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_ENDINGS | SOUND_ENDINGS:
                return name
    return ""


# In this order a path is asked what lies there: a folder may hold anything.
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("digits", "arrays:digits"),
        Kind("table:NAME", "tables:table"),
        Kind("npz:PATH", "arrays:from_npz", _npz),
        Kind("cifar:PATH", "cifar:from_cifar", _cifar),
        Kind("idx:PATH", "idx:from_idx", _idx),
        Kind("parquet:PATTERN", "parquet:from_parquet", _parquet),
        Kind("tar:PATTERN", "shards.tar:from_tar", _tar),
        Kind("lmdb:PATH", "shards.lmdb:from_lmdb", _lmdb),
        Kind("svhn:PATH", "svhn:from_svhn", _svhn),
        Kind("csv:PATH", "delimited:from_csv", _csv),
        Kind("wav:PATH", "recordings:from_wav", _wav),
        Kind("folder:PATH", "folder:from_images", _folder),
    )
}


def spellings(last: str = "or a path") -> str:
    """How data are named, for help and errors.

    >>> spellings().split(", ")[:2]
    ['digits', 'table:NAME']
    """
    return ", ".join([*(kind.spelling for kind in KINDS.values()), last])
