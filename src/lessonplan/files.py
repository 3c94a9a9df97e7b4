"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from lessonplan.errors import DiskError, LessonplanWarning

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # what ``write_atomically`` calls them
_READABLE = 4_000_000  # characters of JSON, beyond which it is not indented


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, sync it to the disk, and rename it.

    Raises:
        DataError: the disk is full or refuses the file; what was at ``path`` before is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise disk_error(path, error) from error
        raise


@contextlib.contextmanager
def growing(path: Path) -> Iterator[TextIO]:
    """A text file that grows line by line: what was written stays, whatever comes.

    Raises:
        DataError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise disk_error(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder; a user's own stay."""
    for temporary in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(temporary.name) and not temporary.is_dir():
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, see ``write_atomically``: indented, unless it is too long for anybody to read.

    Python indents five times as slowly as it writes.
    """
    text = json.dumps(value)
    if len(text) < _READABLE:
        text = json.dumps(value, indent=1)
    write_atomically(path, (text + "\n").encode())


def disk_error(path: Path, error: OSError) -> DiskError:
    """One sentence for a write that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(f"the disk is full, {path} could not be written: free some space and run it again")
    return DiskError(f"{path} could not be written ({error.strerror or error}): mend that and run it again")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json_lines(path: Path, containing: bytes = b"") -> list[dict[str, Any]]:
    """The objects of a JSONL file; an unfinished last line (a killed run) is left out silently.

    A damaged line elsewhere is left out with a :class:`LessonplanWarning` that counts such lines.

    Args:
        path: the file.
        containing: lines without these bytes are left out.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return _objects(path, (line for line in _lines(file) if containing in line))


def read_some_json_lines(path: Path, most: int) -> tuple[list[dict[str, Any]], int]:
    """Objects of a JSONL file that may have millions of lines, and how many lines it has; in one pass.

    Of a longer file at most so many lines at equal distances, and more than half as many; as many of those with
    ``"val"``, which may be rare; and the last one. Damaged lines are treated as in ``read_json_lines``.
    """
    if not path.is_file():
        return [], 0
    spread, judged = _Thinned(most), _Thinned(most)
    lines = judgements = 0
    line = b""
    with path.open("rb") as file:
        for line in _lines(file):
            if lines % spread.every == 0:
                spread.keep(lines, line)
            if _JUDGED in line:
                if judgements % judged.every == 0:
                    judged.keep(lines, line)
                judgements += 1
            lines += 1
    kept = {**dict(spread.kept), **dict(judged.kept), **({lines - 1: line} if lines else {})}
    return _objects(path, (kept[number] for number in sorted(kept))), lines


class _Thinned:
    """What is kept of things that come one after the other, at equal distances: every ``every``-th."""

    def __init__(self, most: int) -> None:
        self.every = 1
        self.kept: list[tuple[int, bytes]] = []
        self._most = most

    def keep(self, number: int, line: bytes) -> None:
        self.kept.append((number, line))
        if len(self.kept) > self._most:
            del self.kept[1::2]
            self.every *= 2


def _objects(path: Path, lines: Iterable[bytes]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    damaged = 0
    for line in lines:
        try:
            content = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            damaged += line.endswith(b"\n") and not line.isspace()
            continue
        if isinstance(content, dict):
            found.append(content)
    if damaged:
        warnings.warn(f"{path}: left out {damaged} damaged lines", LessonplanWarning, stacklevel=3)
    return found


_JUDGED = b'"val": '
_LONGEST_LINE = 4 * 2**20


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines of at most 4 MiB; what is longer comes in pieces, none of which is JSON."""
    while line := file.readline(_LONGEST_LINE):
        yield line
