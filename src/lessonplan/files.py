"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import warnings
from pathlib import Path
from typing import Any

from lessonplan.errors import DataError, LessonplanWarning


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


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; see ``write_atomically``."""
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=True) + "\n").encode())


def disk_error(path: Path, error: OSError) -> DataError:
    """One sentence for a write that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"the disk is full, {path} could not be written: free some space and run again to resume")
    return DataError(f"{path} could not be written ({error.strerror or error}): mend that and run again to resume")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; an unfinished last line (a killed run) is left out silently.

    A damaged line elsewhere is left out with a :class:`LessonplanWarning` that counts such lines.
    """
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    damaged: list[int] = []
    texts = [text for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if text.strip()]
    for position, text in enumerate(texts):
        try:
            content = json.loads(text)
        except ValueError:
            damaged.append(position)
            continue
        if isinstance(content, dict):
            lines.append(content)
    if any(position < len(texts) - 1 for position in damaged):
        warnings.warn(f"{path}: left out {len(damaged)} damaged lines", LessonplanWarning, stacklevel=2)
    return lines
