"""Where each sample of many shards lies and what it is, found once and kept on disk as arrays that are mapped."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lessonplan.cache import cache_folder
from lessonplan.data.encoded import Header
from lessonplan.data.pixels import BROKEN, open_image
from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.files import disk_error, write_atomically
from lessonplan.lock import in_turn
from lessonplan.progress import HasLine, step
from lessonplan.progress_words import per_time

Array = npt.NDArray[Any]
_LAYOUT = b"lessonplan-shards-1"
_ALIGNED = 64
_COLUMNS = {
    "file": "<i4", "group": "<i4", "start": "<i8", "size": "<i8", "label": "<i4", "height": "<i4", "width": "<i4",
    "flags": "|u1", "digest": "|u1", "name_ends": "<i8", "names": "|u1",
}  # fmt: skip
_FLAGS = ("grey", "deep", "transparent", "deep_colours")
_BAD = 128
KEY_BYTES = 17  # of a picture's content
IN_PLACE, COPIED = -1, -2
"""In place of a row group's number: the picture lies in its file as it is, or in the file beside the index."""


class Stamp(NamedTuple):
    """A file as it was when it was indexed."""

    path: str
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file as it is now.

        Raises:
            DataError: it cannot be looked at, or is no regular file.
        """
        try:
            told = path.stat()
        except OSError as e:
            raise DataError(
                f"{path} cannot be read ({e.strerror}): fetch it, or name the files that are there"
            ) from e
        if not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path} is no regular file: give shards")
        return cls(os.path.abspath(path), told.st_size, told.st_mtime_ns)


class Reading(HasLine):
    """Says how far the reading of some files is: their bytes, and pictures a second.

    Args:
        files: in the order in which they are read.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._sizes = [path.stat().st_size for path in files]
        self._before = [0, *accumulate(self._sizes)]
        super().__init__(step("indexing shards", sum(self._sizes)))
        self._began = time.monotonic()

    def at(self, file: int, share: float, pictures: int) -> None:
        """So much of a file is read, a share in [0, 1], and so many pictures of all files are known."""
        done = self._before[file] + min(share, 1.0) * self._sizes[file]
        passed = max(time.monotonic() - self._began, 1e-9)
        self.line.update(done, rate=per_time(pictures / passed, "pictures"))


@dataclass
class Rows:
    """An index that grows sample by sample.

    Attributes:
        labels: the different labels, by their values, with their numbers.
        told: what else there is to keep, as plain data.
        more: files that samples lie in and that were made beside the index.
    """

    labels: dict[tuple[str, Any], int] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    more: list[Path] = field(default_factory=list)
    _kept: dict[str, array[int]] = field(
        default_factory=lambda: {name: array(np.dtype(kind).char) for name, kind in _COLUMNS.items()}
    )

    def __len__(self) -> int:
        return len(self._kept["file"])

    def add(
        self, file: int, start: int, picture: bytes, key: bytes, *, group: int = IN_PLACE, name: str | None = None
    ) -> int:
        """Note a picture; the number of its row.

        Args:
            file: number of its file.
            start: where it begins in the file (in the last of ``more`` if copied), or its row in its row group.
            picture: its bytes.
            key: of its content (``encoded.file_key``).
            group: number of the row group that has to be read for it, ``IN_PLACE`` or ``COPIED``.
            name: what it is called in its file; None: by its number.
        """
        height, width, flags = _header(picture)
        row = len(self)
        values = (file, group, start, len(picture), -1, height, width, flags)
        for (_, column), value in zip(self._kept.items(), values, strict=False):
            column.append(value)
        self._kept["digest"].frombytes(key)
        if name is not None:
            self._kept["names"].frombytes(name.encode("utf-8", "backslashreplace"))
            self._kept["name_ends"].append(len(self._kept["names"]))
        return row

    def label(self, row: int, value: Any) -> None:
        """Note the label of a row: a number, a text, or None for one without."""
        known = (type(value).__name__, value)
        self._kept["label"][row] = self.labels.setdefault(known, len(self.labels))

    def arrays(self) -> dict[str, Array]:
        """The columns."""
        return {name: np.frombuffer(column, dtype=_COLUMNS[name]) for name, column in self._kept.items()}


def _header(picture: bytes) -> tuple[int, int, int]:
    """Height, width and flags of a picture; the highest flag of one that cannot be read."""
    try:
        with open_image(picture) as image:
            found = Header.of(image)
    except BROKEN:
        return 0, 0, _BAD
    return *found.size, sum(getattr(found, flag) << place for place, flag in enumerate(_FLAGS))


def appended(copy: Path, picture: bytes) -> int:
    """Put a picture behind those that were copied before; where it begins.

    Raises:
        DataError: the disk is full, or refuses the file.
    """
    try:
        with copy.open("ab") as file:
            start = file.tell()
            file.write(picture)
    except OSError as error:
        raise disk_error(copy, error) from error
    return start


class Index:
    """What is known of the samples of some files.

    Args:
        told: plain data: the files, the labels, and what the reader noted.
        columns: ``file``, ``group``, ``start``, ``size``, ``label``, ``height``, ``width`` ``(N,)``; ``digest``
            ``(17 N,)`` uint8; ``names`` uint8, one behind the other, and ``name_ends`` ``(N,)`` or ``(0,)``.
        path: the file that they are mapped from; None where nothing could be kept.
    """

    def __init__(self, told: dict[str, Any], columns: dict[str, Array], path: Path | None = None) -> None:
        self.told, self.columns, self.path = told, columns, path
        self.files = [Stamp(*stamp) for stamp in told["files"]]
        self.labels: list[Any] = told["labels"]

    def __len__(self) -> int:
        return len(self.columns["file"])

    def name(self, row: int) -> str | None:
        """What a sample is called in its file; None where it has no name."""
        ends = self.columns["name_ends"]
        if len(ends) == 0:
            return None
        return self.columns["names"][int(ends[row - 1]) if row else 0 : int(ends[row])].tobytes().decode("utf-8")

    def headers(self) -> list[Header | None]:
        """The header of every picture, None for those that cannot be read; equal ones are one object."""
        heights, widths, flags = (self.columns[name].tolist() for name in ("height", "width", "flags"))
        known: dict[tuple[int, int, int], Header | None] = {}
        for height, width, told in set(zip(heights, widths, flags, strict=True)):
            said = {flag: bool(told >> place & 1) for place, flag in enumerate(_FLAGS)}
            known[height, width, told] = None if told & _BAD else Header((height, width), **said)
        return [known[one] for one in zip(heights, widths, flags, strict=True)]

    def keys(self, rows: Array) -> list[bytes]:
        """The key of each row's content."""
        every = self.columns["digest"].reshape(-1, KEY_BYTES)[rows].tobytes()
        return [every[at : at + KEY_BYTES] for at in range(0, len(every), KEY_BYTES)]

    def __reduce__(self) -> Any:
        """For processes that are started anew: the file is mapped again."""
        return (_again, (self.told, self.columns if self.path is None else None, self.path))


def _again(told: dict[str, Any], columns: dict[str, Array] | None, path: Path | None) -> Index:
    if path is None:
        return Index(told, columns or {})
    found = _mapped(path)
    if found is None or found.told != told:
        raise DataError(f"the index {path} was changed while it was in use: begin again")
    return found


def indexed(kind: str, files: Sequence[Path], make: Callable[[Path], Rows]) -> Index:
    """The index of files, made where there is none of them as they are now; by one process, the others wait.

    Args:
        kind: of the files; another way to index them has another name.
        files: in their order.
        make: reads them all; it is given a folder for what it has to keep beside the index.

    Raises:
        DataError: a file is missing, or was changed while it was read.
    """
    stamps = [Stamp.of(path) for path in files]
    name = json.dumps([kind, [stamp.path for stamp in stamps]])
    folder = (
        cache_folder("shards")
        / hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    )
    wanted = {"kind": kind, "shards": [list(stamp) for stamp in stamps]}
    with in_turn(folder):
        found = _mapped(folder / "index")
        if found is not None and found.told | wanted == found.told and not _changed(found.files):
            return found
        del found
        rows = make(folder)
        changed = _changed(stamps)
        if changed is not None:
            raise DataError(
                f"{changed.path} was changed while it was read: wait until it is whole, and begin again"
            )
        every = [*stamps, *(Stamp.of(path) for path in rows.more)]
        labels = [value for _, value in rows.labels]
        told = {**wanted, "files": [list(stamp) for stamp in every], "labels": labels, **rows.told}
        columns = rows.arrays()
        try:
            write_atomically(folder / "index", _packed(told, columns))
        except DataError as error:
            warnings.warn(
                f"the index of {files[0]} and {len(files) - 1} other shards is not kept, and will be made again"
                f" ({error})",
                LessonplanWarning,
                stacklevel=2,
            )
            return Index(json.loads(json.dumps(told)), columns)
        mapped = _mapped(folder / "index")
    if mapped is None:
        raise DataError(f"the index {folder / 'index'} cannot be read back: the disk or memory may be faulty")
    return mapped


def _changed(stamps: Sequence[Stamp]) -> Stamp | None:
    """The first file that is not what it was, or not there."""
    for stamp in stamps:
        try:
            if Stamp.of(Path(stamp.path)) != stamp:
                return stamp
        except DataError:
            return stamp
    return None


def _packed(told: dict[str, Any], columns: dict[str, Array]) -> bytes:
    """A checksum and the length of what follows; plain data; the columns, each at a multiple of 64 bytes."""
    lengths = {name: len(column) for name, column in columns.items()}
    text = json.dumps({"told": told, "lengths": lengths}).encode()
    pieces, place = [text], len(text)
    for column in columns.values():
        pieces += [bytes(-place % _ALIGNED), column.tobytes()]
        place += -place % _ALIGNED + column.nbytes
    content = b"".join(pieces)
    return _first_line(content, len(text)) + content


def _first_line(content: Any, length: int) -> bytes:
    line = b"%s %s %d" % (_LAYOUT, hashlib.blake2b(content, digest_size=16).hexdigest().encode(), length)
    return line.ljust(2 * _ALIGNED - 1) + b"\n"


def _mapped(path: Path) -> Index | None:
    """The index in a file; None where there is none that is whole."""
    try:
        if not path.is_file():
            return None
        mapped = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
        line = mapped[: 2 * _ALIGNED].tobytes()
        length = int(line.split()[2])
        content = mapped[2 * _ALIGNED :]
        if line != _first_line(content, length):
            return None
        told = json.loads(content[:length].tobytes())
        place, columns = length, {}
        for name, kind in _COLUMNS.items():
            place += -place % _ALIGNED
            size = told["lengths"][name] * np.dtype(kind).itemsize
            columns[name] = content[place : place + size].view(kind)
            place += size
        return Index(told["told"], columns, path)
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return None
