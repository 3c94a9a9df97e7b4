"""Parquet files that do not fit into memory: pictures read where they lie, or with their row group."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lessonplan.data.encoded import Labelled, StorageChanged, file_key
from lessonplan.data.limits import check_ratio
from lessonplan.data.parquet import TOGETHER, as_the_first, class_names, columns, image_bytes, reading, renumbered
from lessonplan.data.shards.files import File
from lessonplan.data.shards.index import COPIED, IN_PLACE, Reading, Rows, Stamp, appended, indexed
from lessonplan.data.shards.pictures import Shards
from lessonplan.errors import DataError, LessonplanWarning

HELD = 256 * 2**20
"""Bytes of row groups that a process holds; pictures of larger ones that lie packed are copied once."""
_GAP = 2**17  # bytes between two values of a column: the head of a page
_BUFFERED = 2**20
_FOOTERS = 64  # of files, kept between two row groups

Bytes = npt.NDArray[np.uint8]


def read_shards(files: Sequence[Path]) -> Labelled:
    """Encoded images, class numbers and class names of parquet files, which stay on the disk.

    Raises:
        DataError: files that cannot be read, or that do not belong together.
    """
    index = indexed("parquet", files, lambda folder: _rows(files, folder))
    group = index.columns["group"]
    packed, copied = int((group >= 0).sum()), int((group == COPIED).sum())
    if index.told["packed"] > HELD:
        warnings.warn(
            f"{packed} of {len(group)} pictures in {files[0].parent} lie packed in row groups of up to"
            f" {index.told['largest'] / 2**20:.0f} MiB: to read one of them its whole row group is read, of which"
            f" a process holds {HELD // 2**20} MiB; write the files with compression='none' to have pictures read"
            " by themselves",
            LessonplanWarning,
            stacklevel=2,
        )
    if copied:
        warnings.warn(
            f"{copied} of {len(group)} pictures in {files[0].parent} lie packed in row groups of more than"
            f" {HELD // 2**20} MiB and were copied to {index.files[-1].path}, once: write the files with"
            " compression='none' to have them read where they are",
            LessonplanWarning,
            stacklevel=2,
        )
    return Shards(index, RowGroups(index.files)).labelled(index.labels, index.told["names"])


def _rows(files: Sequence[Path], folder: Path) -> Rows:
    """Read all files from their beginnings to their ends, once."""
    rows, copy = Rows(), folder / "copied"
    names: list[str] | None = None
    largest = packed = 0
    copy.unlink(missing_ok=True)
    with Reading(files) as how_far:
        for number, path in enumerate(files):
            with reading(path) as pq, pq.ParquetFile(path, buffer_size=_BUFFERED) as file:
                image, label = columns(file.schema_arrow.names, path)
                own = class_names(file.schema_arrow.metadata, label)
                names = own if number == 0 else names
                numbers = renumbered(own, names, path)
                unpacked, before = 0, len(rows)
                for group in range(file.num_row_groups):
                    found = _Chunk(path, file.metadata.row_group(group), image)
                    row, lies_packed = 0, False
                    for batch in file.iter_batches(
                        TOGETHER, row_groups=[group], columns=[image, label], use_threads=False
                    ):
                        data, sizes = image_bytes(batch.column(image), path)
                        unpacked += len(data)
                        check_ratio(path, unpacked, path.stat().st_size)
                        ends = np.cumsum(sizes).tolist()
                        for value, size, end in zip(
                            batch.column(label).to_pylist(), sizes.tolist(), ends, strict=True
                        ):
                            picture = data[end - size : end].tobytes()
                            key = file_key(picture)
                            start, place = found.place(picture, key), IN_PLACE
                            if start is None and found.size <= HELD:
                                start, place, lies_packed = row, group, True
                            elif start is None:
                                start, place = appended(copy, picture), COPIED
                            at = rows.add(number, start, picture, key, group=place)
                            rows.label(at, _plain(as_the_first(numbers, value), f"{path.name} row {at}"))
                            row += 1
                        how_far.at(number, (len(rows) - before) / file.metadata.num_rows, len(rows))
                    packed += found.size * lies_packed
                    largest = max(largest, found.size * lies_packed)
    rows.told |= {"names": names, "largest": largest, "packed": packed}
    rows.more += [copy] if copy.exists() else []
    return rows


def _plain(value: Any, what: str) -> int | str | None:
    if value is not None and not isinstance(value, (int, str)):
        raise DataError(f"{what} has the label {str(value)[:100]!r}, not a class number or name")
    return value


class _Chunk:
    """The bytes of a column in a row group, where values are looked for as they are.

    Attributes:
        size: bytes of the values, unpacked.
    """

    def __init__(self, path: Path, group: Any, image: str) -> None:
        told = [group.column(i) for i in range(group.num_columns)]
        column = next((c for c in told if c.path_in_schema in (image, f"{image}.bytes")), None)
        if column is None:
            raise DataError(f"{path}: the column {image!r} holds no encoded images (bytes)")
        self.size: int = column.total_uncompressed_size
        starts = (column.dictionary_page_offset, column.data_page_offset)
        self._at: int = min(start for start in starts if start)
        self._file: File | None = File(str(path)) if column.compression == "UNCOMPRESSED" else None
        self._known: dict[bytes, int] = {}

    def place(self, picture: bytes, key: bytes) -> int | None:
        """Where these bytes begin in the file; None where they do not lie there in one piece.

        Whatever the column's encoding is, bytes that are the same are the picture's.
        """
        if self._file is None:
            return None
        if not picture or key in self._known:  # a value of a dictionary is there once
            return self._known.get(key, 0)
        start = self._at + 4  # behind its length
        if self._file.read(len(picture), start) != picture:
            found = self._file.read(len(picture) + _GAP, self._at).find(picture)
            if found < 0:
                return None
            start = self._at + found
        self._at = start + len(picture)
        self._known[key] = start
        return start


class RowGroups:
    """Row groups of parquet files, read when one of their pictures is wanted; the last ones are held.

    Args:
        stamps: of the files when they were indexed.
        held: bytes of row groups that are held at most, beside the one that is read; None is ``HELD``.
    """

    def __init__(self, stamps: Sequence[Stamp], held: int | None = None) -> None:
        self.stamps, self.most = stamps, HELD if held is None else held
        self._forget()

    def _forget(self) -> None:
        self._groups: OrderedDict[tuple[int, int], tuple[Bytes, list[int]]] = OrderedDict()
        self._footers: OrderedDict[int, Any] = OrderedDict()
        self._alone = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"stamps": self.stamps, "most": self.most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def picture(self, file: BinaryIO | Any, number: int, group: int, row: int) -> bytes:
        """The bytes of a picture.

        Args:
            file: the open file, which is what it was.
            number: of the file.
            group: number of the row group in it.
            row: of the picture in the group.

        Raises:
            StorageChanged: the file is not what was indexed.
        """
        with self._alone:
            found = self._groups.get((number, group))
            if found is None:
                found = self._read(number, group)
                self._groups[number, group] = found
                while len(self._groups) > 1 and sum(len(data) for data, _ in self._groups.values()) > self.most:
                    self._groups.popitem(last=False)
            self._groups.move_to_end((number, group))
        data, ends = found
        return data[ends[row] : ends[row + 1]].tobytes()

    def _read(self, number: int, group: int) -> tuple[Bytes, list[int]]:
        path = Path(self.stamps[number].path)
        try:
            with reading(path) as pq, pq.ParquetFile(path, metadata=self._footers.get(number)) as file:
                self._footers[number] = file.metadata
                if len(self._footers) > _FOOTERS:
                    self._footers.popitem(last=False)
                image, _ = columns(file.schema_arrow.names, path)
                nested = hasattr(file.schema_arrow.field(image).type, "get_field_index")
                table = file.read_row_group(
                    group, columns=[f"{image}.bytes" if nested else image], use_threads=False
                )
                pieces = [image_bytes(chunk, path) for chunk in table.column(0).chunks]
        except DataError as e:
            raise StorageChanged(str(e)) from e
        data = np.concatenate([np.empty(0, dtype=np.uint8), *(piece for piece, _ in pieces)])
        sizes = np.concatenate([np.zeros(1, dtype=np.int64), *(size for _, size in pieces)])
        return data, np.cumsum(sizes).tolist()
