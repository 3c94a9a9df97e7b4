"""The entries of LMDB files, read in a process of their own: LMDB trusts files, and crashes at damaged ones."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from lessonplan.child import reader
from lessonplan.errors import ConfigError, DataError, first_line
from lessonplan.extras import refuse_other_versions

CODE = "from lessonplan.lmdb_entries import main; main()"
DATA = "data.mdb"
"""The file of an environment, which is a folder."""
_LENGTHS = struct.Struct("<iq")
"""Of a key and of its value; a key below 0 is the end, and behind it is an error of the other length."""
_SECONDS, _PER_SECOND = 60.0, 2 * 2**20  # a reader that hangs is ended; bytes of a file that it has a second for
_SMALLEST = 8  # bytes that an entry takes at the least, its place in a page and its header
_LONGEST = 4096  # bytes of a key; LMDB's own limit is 511 unless it was compiled with another


def entries(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    """Every key with its value, in the order of the keys.

    Args:
        folder: with ``data.mdb``; nothing is written there.

    Raises:
        ConfigError: lmdb is not installed. DataError: the file is damaged or no such file.
    """
    if find_spec("lmdb") is None:
        raise ConfigError("LMDB files need lmdb: pip install 'lessonplan[lmdb]'")
    refuse_other_versions("lmdb")
    where = folder / DATA
    size = where.stat().st_size
    with reader(CODE, str(folder), seconds=_SECONDS + size / _PER_SECOND) as child:
        assert child.stdout is not None
        yield from _received(child.stdout, where, size)


def _received(pipe: IO[bytes], where: Path, size: int) -> Iterator[tuple[bytes, bytes]]:
    """What the other process sends: no more than the file can hold, however its pages point to one another."""
    left = size
    while True:
        key, value = _LENGTHS.unpack(_whole(pipe, _LENGTHS.size, where))
        if key < 0:
            if value:
                raise _damaged(where, _whole(pipe, min(value, 1000), where).decode("utf-8", "replace"))
            return
        left -= _SMALLEST + key + value
        if left < 0 or key > _LONGEST:
            raise _damaged(where, "its pages lead in a circle")
        yield _whole(pipe, key, where), _whole(pipe, value, where)


def _whole(pipe: IO[bytes], size: int, where: Path) -> bytes:
    found = pipe.read(size)
    if len(found) < size:
        raise _damaged(where, "its reader crashed or hung")
    return found


def _damaged(where: Path, why: str) -> DataError:
    return DataError(f"{where} is damaged or no LMDB file ({why}): fetch it again")


def _serve(folder: str, answers: IO[bytes]) -> None:
    """The other process: send every entry."""
    import lmdb

    with (
        lmdb.open(folder, readonly=True, lock=False, create=False, max_readers=1) as environment,
        environment.begin(buffers=True) as transaction,
        transaction.cursor() as cursor,
    ):
        for key, value in cursor:
            answers.write(_LENGTHS.pack(len(key), len(value)))
            answers.write(key)
            answers.write(value)
    answers.write(_LENGTHS.pack(-1, 0))


def main() -> None:
    """Serve the process that started this one; what the reader raises becomes a sentence."""
    answers = sys.stdout.buffer
    try:
        _serve(sys.argv[1], answers)
    except BrokenPipeError:  # nobody wants more
        os._exit(0)
    except Exception as error:
        said = first_line(error).encode()
        answers.write(_LENGTHS.pack(-1, len(said)) + said)
    answers.flush()
