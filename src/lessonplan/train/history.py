"""The records of a run's epochs, packed: a long run has many, and its memory is not to grow with them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

Record = dict[str, Any]
_TOGETHER = 64  # records that are packed as one: neighbours have most of their text in common


class History(Sequence[Record]):
    """A record an epoch, oldest first; the newest ones as they are, those before compressed in blocks.

    The newest record is what was appended, not a copy: what is changed in it is kept. Older ones come as copies,
    made when they are asked for. Records that JSON would not give back the same are kept as they are.

    Args:
        records: to begin with.

    >>> history = History({"epoch": epoch} for epoch in range(1000))
    >>> len(history), history[-1], history[500], history[:2]
    (1000, {'epoch': 999}, {'epoch': 500}, [{'epoch': 0}, {'epoch': 1}])
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._blocks: list[bytes | list[Record]] = []
        self._newest: list[Record] = []
        for record in records:
            self.append(record)

    def append(self, record: Record) -> None:
        """Add an epoch's record."""
        if len(self._newest) == _TOGETHER:
            self._blocks.append(_packed(self._newest))
            self._newest = []
        self._newest.append(record)

    def __len__(self) -> int:
        return _TOGETHER * len(self._blocks) + len(self._newest)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return list(self)[index]
        block, place = divmod(range(len(self))[index], _TOGETHER)
        return self._block(block)[place]

    def __iter__(self) -> Iterator[Record]:
        for block in range(len(self._blocks) + 1):
            yield from self._block(block)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"

    def _block(self, number: int) -> list[Record]:
        block = self._blocks[number] if number < len(self._blocks) else self._newest
        return block if isinstance(block, list) else _unpacked(block)


def _packed(records: list[Record]) -> bytes | list[Record]:
    """Compressed; or as they are, where a part of the user's own describes itself by what is no JSON."""
    try:
        block = zlib.compress("\n".join(map(json.dumps, records)).encode())
    except (TypeError, ValueError, RecursionError):
        return records
    return block if _unpacked(block) == records else records


def _unpacked(block: bytes) -> list[Record]:
    return [json.loads(line) for line in zlib.decompress(block).split(b"\n")]
