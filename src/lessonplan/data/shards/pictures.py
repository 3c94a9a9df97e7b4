"""Pictures in shards, each read by itself where it lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lessonplan.data.encoded import Header, Labelled, StorageChanged, why
from lessonplan.data.labels import class_numbers
from lessonplan.data.pixels import BROKEN, open_image
from lessonplan.data.shards.files import Files
from lessonplan.data.shards.index import COPIED, Index, Stamp

if TYPE_CHECKING:
    from lessonplan.data.shards.groups import RowGroups


class Shards:
    """Pictures that lie in files as they are, read one by one (``encoded.Encoded``, ``encoded.Indexed``).

    Args:
        index: where they lie.
        groups: reads those that lie in row groups.
    """

    def __init__(self, index: Index, groups: RowGroups | None = None) -> None:
        self.index, self.files, self.groups = index, Files(index.files), groups
        columns = index.columns
        self._file, self._start, self._size = columns["file"], columns["start"], columns["size"]
        self._group = columns["group"]
        copied = self._group == COPIED
        self._lies = np.where(copied, len(index.files) - 1, self._file) if copied.any() else self._file
        self._names = _short(index.files[: len(index.told["shards"])])  # not what was copied beside the index

    def __len__(self) -> int:
        return len(self.index)

    def name(self, i: int) -> str:
        """The shard's name, as far as it differs from the others', and the picture's in it."""
        file = int(self._file[i])
        name = self.index.name(i)
        if name is not None:
            return f"{self._names[file]}/{name}"
        return f"{self._names[file]} row {i - int(np.searchsorted(self._file, file))}"

    def load(self, i: int) -> bytes:
        """The bytes of a picture.

        Raises:
            StorageChanged: its shard is not what was indexed.
        """
        size = int(self._size[i])
        number, group = int(self._lies[i]), int(self._group[i])
        if group >= 0 and self.groups is not None:
            return self.groups.picture(self.files[number], number, group, int(self._start[i]))
        found = self.files[number].read(size, int(self._start[i]))
        if len(found) < size:
            raise StorageChanged(f"{self.files.stamps[number].path} was cut off while it was read: put it back")
        return found

    def ahead(self, rows: Sequence[int]) -> list[int]:
        """Ask the system for pictures that will be read; returns the order in which they lie."""
        at = np.asarray(rows, dtype=np.int64)
        order = np.lexsort((self._start[at], self._group[at], self._lies[at]))
        at = at[order]
        columns = (self._lies, self._group, self._start, self._size)
        for file, group, start, size in zip(*(column[at].tolist() for column in columns), strict=True):
            if group < 0:
                self.files[file].expect(start, size)
        found: list[int] = order.tolist()
        return found

    def headers(self) -> list[Header | str]:
        """The header of every picture as it was indexed, or why there is none."""
        return [self._reason(i) if header is None else header for i, header in enumerate(self.index.headers())]

    def keys(self, rows: Sequence[int]) -> list[bytes]:
        """The keys of the pictures' contents as they were indexed."""
        return self.index.keys(np.asarray(rows, dtype=np.int64))

    def _reason(self, i: int) -> str:
        try:
            open_image(self.load(i)).close()
        except StorageChanged:
            raise
        except BROKEN as e:
            return why(e)
        return "its header could not be read"

    def labelled(self, values: Sequence[Any], names: Sequence[str] | None) -> Labelled:
        """The pictures with their classes.

        Args:
            values: the different labels, by the numbers that the index has of them.
            names: of the classes; None where the labels themselves are names or numbers without.

        Raises:
            DataError: labels that cannot be used. Unlabelled: all of them say that there is none.
        """
        kept = self.index.columns["label"]

        def first(number: int) -> str:
            return self.name(int(np.argmax(kept == number)))

        numbers, known = class_numbers(values, names, first)
        return Labelled(self, numbers[torch.from_numpy(kept.astype(np.int64))], known)


def _short(stamps: Sequence[Stamp]) -> list[str]:
    """The paths of files below the folder that they share."""
    common = os.path.commonpath([os.path.dirname(stamp.path) for stamp in stamps])
    return [Path(stamp.path).relative_to(common).as_posix() for stamp in stamps]
