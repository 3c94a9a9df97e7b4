"""Files below a folder or inside a zip archive, by their relative names; nothing is ever unpacked."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lessonplan.data.limits import check_ratio
from lessonplan.data.walk import walk
from lessonplan.errors import DataError

LARGEST = 256 * 2**20  # bytes of one file; a small archive can claim to hold any amount
_BROKEN = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Store:
    """Named files.

    Attributes:
        path: the folder or the archive.
        names: relative, with ``/``, sorted; hidden ones are left out.
        read: the bytes of one of them, or its first ones; a DataError where it cannot be read.
    """

    path: Path
    names: tuple[str, ...]
    read: Callable[[str, int | None], bytes]


def open_store(path: Path) -> Store:
    """List what a folder or a zip archive holds.

    Raises:
        DataError: neither of both, a damaged archive, or one with members outside its folder.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist: give a folder or a zip archive")
    try:
        archive = zipfile.ZipFile(path)
        members = archive.infolist()
    except _BROKEN as e:
        raise DataError(f"{path} is no zip archive, or a damaged one ({e}): fetch or pack it again") from e
    check_ratio(path, sum(member.file_size for member in members), path.stat().st_size)
    for member in members:
        if _leaves(member):
            archive.close()
            raise DataError(
                f"{path} holds the member {member.filename!r}, which points outside the archive's folder: such "
                "archives are refused, pack it again with plain relative names"
            )

    def read(name: str, limit: int | None) -> bytes:
        try:
            with archive.open(name) as file:
                return _at_most(file.read(LARGEST + 1) if limit is None else file.read(limit))
        except _BROKEN as e:
            raise e if isinstance(e, DataError) else DataError(f"damaged or locked in the archive: {e}") from e

    return Store(path, _visible([m.filename for m in members if not m.is_dir()]), read)


def _folder(root: Path) -> Store:
    names = []
    for where, files in walk(root):
        below = Path(where).relative_to(root)
        names += [(below / f).as_posix() for f in files if (Path(where) / f).is_file()]

    return Store(root, _visible(names), lambda name, limit: read_file(root / name, limit))


def read_file(path: Path, limit: int | None) -> bytes:
    """A file's bytes, or its first ones.

    Raises:
        DataError: it cannot be read, is no regular file, or is larger than 256 MiB.
    """
    if not path.is_file():
        raise DataError("no regular file")
    try:
        with path.open("rb") as file:
            return _at_most(file.read(LARGEST + 1) if limit is None else file.read(limit))
    except OSError as e:
        raise DataError(e.strerror or str(e)) from e


def _visible(names: list[str]) -> tuple[str, ...]:
    """Names without hidden files and what macOS adds to archives."""
    return tuple(sorted(n for n in set(names) if not is_hidden(n)))


def is_hidden(name: str) -> bool:
    """Whether a member is a hidden file, or what macOS adds to archives.

    >>> is_hidden("a/._b.png"), is_hidden("__MACOSX/b.png"), is_hidden("a/b.png")
    (True, True, False)
    """
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def leads_out(name: str) -> bool:
    """Whether a member's name leads out of a folder on any system.

    >>> leads_out("a/../../b"), leads_out("/a"), leads_out("C:a"), leads_out("a\\\\..\\\\b"), leads_out("a/b..png")
    (True, True, True, True, False)
    """
    plain = name.replace("\\", "/")
    return plain.startswith("/") or plain[1:2] == ":" or ".." in plain.split("/")


def _leaves(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a link, or its name leads elsewhere."""
    return (
        leads_out(member.filename) or leads_out(member.orig_filename) or stat.S_ISLNK(member.external_attr >> 16)
    )


def _at_most(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise DataError(f"larger than {LARGEST // 2**20} MiB")
    return data
