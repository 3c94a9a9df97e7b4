"""The members of a plain tar file, where they lie; nothing is unpacked and no name leads anywhere.

Read are ustar, GNU's long names and numbers, and POSIX's extended (pax) headers, as described in pax(1) of POSIX.1
and in GNU tar's manual. Python's ``tarfile``, which the tests compare with, takes a damaged header in the middle
for the end, without a word, and reads extended headers of any size into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lessonplan.data.store import leads_out
from lessonplan.errors import DataError

BLOCK = 512
_EXTENDED = 2**20  # bytes of one extended header; names and sizes take a few hundred
_BEHIND = 2**20  # bytes that are looked at behind the end mark; writers fill up to 10 KiB
_END = bytes(BLOCK)
_FILES, _FOLDER, _LONG, _PAX, _COMMON = b"0\x007", b"5", b"LK", b"xX", b"g"
_NAMED = {
    b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file",
    b"M": "a piece of a file",
}  # fmt: skip
_PACKED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
    b"\x1f\x9d": "compress", b"7z\xbc\xaf": "7z",
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A file in a tar file: its name, and where its ``size`` bytes begin."""

    name: str
    start: int
    size: int


def members(path: Path, file: BinaryIO, size: int) -> Iterator[Member]:
    """The files in a tar file, in their order.

    Args:
        path: for what is said.
        file: open for reading; it may be read from between two members.
        size: of the file in bytes.

    Raises:
        DataError: no plain tar file, a damaged or truncated one, members that are no files (links, devices, sparse
            ones), or whose names lead out of a folder, or extended headers of more than 1 MiB.
    """
    common: dict[str, str] = {}
    own: dict[str, str] = {}
    place = 0
    while True:
        head = _at(file, place, BLOCK)
        if head == _END:
            _check_end(path, file, place)
            return
        if len(head) < BLOCK:
            raise DataError(_no_end(path, place, head))
        if not _is_header(head):
            raise DataError(_no_header(path, place, head))
        kind, start = head[156:157], place + BLOCK
        length = _number(path, place, head[124:136])
        if kind in _LONG or kind in _PAX or kind == _COMMON:
            if length > _EXTENDED:
                raise DataError(
                    f"{path} has an extended header of {length} bytes at byte {place}: at most {_EXTENDED} are"
                    " read, pack it again"
                )
            content = _at(file, start, length)
            if kind == _COMMON:
                common |= _records(path, place, content)
            elif kind in _PAX:
                own |= _records(path, place, content)
            elif kind == b"L":
                own["path"] = _text(content.partition(b"\0")[0])
        else:
            told = common | own
            own = {}
            name = told.get("path") or _short_name(head)
            length = _told_size(path, name, told, length)
            if kind == _FOLDER or (kind == b"\0" and name.endswith("/")):
                length = 0
            elif kind not in _FILES or any(key.startswith("GNU.sparse") for key in told):
                what = _NAMED.get(kind, "a sparse file" if kind in _FILES else f"a member of the kind {kind!r}")
                raise DataError(
                    f"{path} holds {what}, {name!r}: only plain files are read, pack it again with those"
                )
            else:
                if leads_out(name):
                    raise DataError(
                        f"{path} holds the member {name!r}, which points outside the archive's folder: such"
                        " archives are refused, pack it again with plain relative names"
                    )
                if start + length > size:
                    raise DataError(
                        f"{path} is cut off, or damaged: its member {name!r} has {length} bytes from byte {start}"
                        f" on, and the file {size} in all: fetch or pack it again"
                    )
                yield Member(name, start, length)
        place = start + -(-length // BLOCK) * BLOCK


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def _is_header(head: bytes) -> bool:
    """Whether the sum of a block's bytes is the one that it names (some writers had signed bytes)."""
    try:
        said = int(head[148:156].split(b"\0")[0].strip() or b"-1", 8)
    except ValueError:
        return False
    total = sum(head) - sum(head[148:156]) + 8 * 32
    return said == total or said == total - 256 * sum(byte > 127 for byte in head[:148] + head[156:])


def _number(path: Path, place: int, field: bytes) -> int:
    """A size: octal digits, or bytes behind one whose highest bit is set (GNU).

    Raises:
        DataError: it is none, or negative.
    """
    try:
        if field[0] & 0x80:
            value = int.from_bytes(bytes([field[0] & 0x7F, *field[1:]]), "big")
            value = -1 if field[0] == 0xFF else value
        else:
            value = int(field.split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        value = -1
    if value < 0:
        raise DataError(f"{path} is damaged: the header at byte {place} names no size, fetch or pack it again")
    return value


def _records(path: Path, place: int, content: bytes) -> dict[str, str]:
    """The fields of an extended header: ``LENGTH KEY=VALUE`` and a line's end, each LENGTH bytes."""
    found: dict[str, str] = {}
    while content.strip(b"\0"):
        length, space, _ = content[:24].partition(b" ")
        size = int(length) if space and length.isdigit() else 0
        key, equals, value = content[len(length) + 1 : max(0, size - 1)].partition(b"=")
        if not equals or size > len(content) or content[size - 1 : size] != b"\n":
            raise DataError(
                f"{path} is damaged: the extended header at byte {place} cannot be read, pack it again"
            )
        found[_text(key)] = _text(value)
        content = content[size:]
    return found


def _told_size(path: Path, name: str, told: dict[str, str], length: int) -> int:
    said = told.get("size")
    if said is None:
        return length
    if not (said.isdecimal() and len(said) < 19):
        raise DataError(f"{path} is damaged: its member {name!r} has the size {said!r}, fetch or pack it again")
    return int(said)


def _short_name(head: bytes) -> str:
    """The name in a header, behind its prefix where POSIX has one (GNU keeps other things there)."""
    name = head[:100].partition(b"\0")[0]
    prefix = head[345:500].partition(b"\0")[0] if head[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _check_end(path: Path, file: BinaryIO, place: int) -> None:
    """Tar files that were put one behind the other would be read up to the first one's end."""
    behind = _at(file, place, _BEHIND)
    if behind.strip(b"\0"):
        raise DataError(
            f"{path} goes on behind its end mark at byte {place}: tar files cannot be put together byte by byte,"
            " give them one by one"
        )


def _no_header(path: Path, place: int, head: bytes) -> str:
    packed = next((name for start, name in _PACKED.items() if head.startswith(start)), None)
    if place:
        return f"{path} is damaged at byte {place}, where a header should be: fetch or pack it again"
    if packed is not None:
        return (
            f"{path} is compressed ({packed}): members are read where they lie, so unpack it once to a plain tar"
            " file (pictures are compressed already)"
        )
    return f"{path} is no tar file"


def _no_end(path: Path, place: int, rest: bytes) -> str:
    if place == 0:
        return _no_header(path, 0, rest)
    return f"{path} is cut off: it ends at byte {place + len(rest)} without an end mark, fetch or pack it again"
