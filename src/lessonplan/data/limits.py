"""How much a file may unpack to: small files can announce any amount."""

from __future__ import annotations

from pathlib import Path

from lessonplan.errors import DataError

_ALLOWED = 256 * 2**20  # bytes that any file may unpack to
_RATIO = 50  # how much larger than itself a file of encoded pictures or recordings may become


def check_fits(where: Path, needed: int, memory_limit: int) -> None:
    """Refuse arrays that would be unpacked to more than is allowed, before they are.

    Args:
        where: the file.
        needed: bytes that it announces.
        memory_limit: bytes that samples may take in memory.

    Raises:
        DataError: it announces more.
    """
    if needed > memory_limit:
        raise DataError(
            f"{where} unpacks to {needed} bytes, and {memory_limit} are allowed: raise memory_limit (on the"
            " command line in GiB) if there is memory for it"
        )


def check_ratio(where: Path, unpacked: int, packed: int) -> None:
    """Refuse a file that grows more than pictures and recordings, which are packed already, ever do.

    Args:
        where: the file.
        unpacked: bytes that it holds, as far as they are known.
        packed: bytes of the file.

    Raises:
        DataError: it grows more.
    """
    if unpacked > max(_ALLOWED, _RATIO * packed):
        raise DataError(
            f"{where} has {packed} bytes and unpacks to {unpacked} or more: it is refused as a decompression bomb;"
            " if it is none, unpack it yourself"
        )
