"""Tables of numbers with a class in one column, as text: CSV and the files of the UCI repository."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lessonplan.data.arrays import TensorSource, to_samples
from lessonplan.data.base import Options, Parts
from lessonplan.data.labels import to_labels
from lessonplan.data.limits import check_fits
from lessonplan.errors import DataError, first_line, unknown

_NAMES = ("label", "class", "target", "y")
_MISSING = frozenset({"", "?", "na", "nan", "null", "none"})
_LONGEST = 1 << 20  # characters of a field; a file of one quoted field would fill memory


@dataclass(frozen=True)
class _Table:
    """A file's rows as text."""

    file: Path
    header: list[str] | None
    rows: list[list[str]]

    def name(self, column: int) -> str:
        return f"'{self.header[column]}'" if self.header is not None else str(column + 1)


def from_csv(path: Path, options: Options) -> Parts:
    """Sources from a file, or a folder with ``train.csv`` and perhaps ``validation.csv`` and ``test.csv``.

    Fields are separated by commas, semicolons, tabs or spaces. The class is in the column that is named behind a
    ``#``, by its name or its number from 1 on: ``csv:wine.data#1``; else in one that is called label, class,
    target or y, else in the last. All others are features and hold numbers.

    Raises:
        DataError: missing files, no such column, rows of different lengths, text or nothing where a number
            should be.
    """
    file, column = _split(path)
    if file.is_file():
        return Parts(_source(_read(file, options.memory_limit), column))
    if not (file / "train.csv").is_file():
        raise DataError(f"{file} is no file, and no folder with a train.csv: give the path of a table")
    tables = {
        part: _read(file / f"{part}.csv", options.memory_limit)
        for part in ("train", "validation", "test")
        if (file / f"{part}.csv").is_file()
    }
    train = tables.pop("train")
    for table in tables.values():
        if (table.header, len(table.rows[0])) != (train.header, len(train.rows[0])):
            raise DataError(f"{table.file} has other columns than {train.file.name}: all parts need the same")
    kept, val = len(train.rows), tables.pop("validation", None)
    source = _source(train if val is None else replace(train, rows=[*train.rows, *val.rows]), column)
    rows = None if val is None else torch.arange(kept, kept + len(val.rows))
    test = _source(tables["test"], column, source.class_names) if "test" in tables else None
    return Parts(source, test, val=rows)


def features(path: Path, count: int, options: Options) -> tuple[list[str], Tensor]:
    """The rows of a table for a network of ``count`` features, with or without their class.

    Args:
        path: a file as for :func:`from_csv`; where it has a column more than there are features, the class is not
            looked at.
        count: features that the network takes.
        options: memory.

    Returns:
        Which row of the file each is (``"row 2"``), and ``(N, count)`` float32.

    Raises:
        DataError: other numbers of columns, or what is no number.
    """
    where, column = _split(path)
    table = _read(where, options.memory_limit)
    columns = len(table.rows[0])
    if columns not in (count, count + 1):
        raise DataError(
            f"{where} has {columns} columns, and the network takes {count} features: give these, and the class"
            " beside them or not"
        )
    label = None if columns == count else _column(table, column)
    return [_where(table, row) for row in range(len(table.rows))], to_samples(_values(table, label))


def _split(path: Path) -> tuple[Path, str]:
    """A path, and the column behind its last ``#``; a path that is there may hold such signs itself."""
    where, mark, column = str(path).rpartition("#")
    return (Path(where), column) if mark and not path.exists() else (path, "")


def _read(file: Path, memory_limit: int) -> _Table:
    check_fits(file, 8 * file.stat().st_size, memory_limit)  # what its fields take as text, about
    csv.field_size_limit(_LONGEST)
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in _rows(lines) if any(field.strip() for field in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{file} is no table in text, or cannot be read ({first_line(e)})") from e
    if not rows:
        raise DataError(f"{file} is empty: a table needs rows")
    rows = [[field.strip() for field in row] for row in rows]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]) or len(row) < 2:
            raise DataError(
                f"{file}, row {number}, has {len(row)} fields and the first {len(rows[0])}: a table has the same"
                " number in all rows, two at least"
            )
    headed = len(rows) > 1 and not any(map(_reads_as_number, rows[0])) and any(map(_reads_as_number, rows[1]))
    return _Table(file, rows[0] if headed else None, rows[headed:])


def _rows(lines: Iterator[str]) -> Iterator[list[str]]:
    """Fields of each line; what separates them is decided by the first that holds any."""
    delimiter = None
    first = []
    for line in lines:
        first.append(line)
        if line.strip():
            delimiter = max(",;\t", key=line.count)
            delimiter = delimiter if delimiter in line else None
            break

    def all_lines() -> Iterator[str]:
        yield from first
        yield from lines

    if delimiter is None:
        return (line.split() for line in all_lines())
    return csv.reader(all_lines(), delimiter=delimiter, skipinitialspace=True)


def _source(table: _Table, column: str, known: tuple[str, ...] | None = None) -> TensorSource:
    """Features and classes; ``known`` are the classes that training has."""
    label = _column(table, column)
    classes = [row[label] for row in table.rows]
    if any(name.lower() in _MISSING for name in classes):
        row = next(n for n, name in enumerate(classes) if name.lower() in _MISSING)
        raise DataError(f"{table.file} has no class in {_where(table, row)}: leave out rows without one")
    whole = all(_is_whole(name) for name in classes)
    labels, names = to_labels([int(float(name)) for name in classes] if whole else classes)
    if known is not None:
        unseen = [name for name in names if name not in known]
        if unseen:
            raise DataError(f"{table.file} has the class {unseen[0]!r}, which training has not")
        labels = torch.tensor([known.index(name) for name in names])[labels]
    return TensorSource(to_samples(_values(table, label)), labels, known or names)


def _values(table: _Table, label: int | None) -> npt.NDArray[np.float32]:
    """All columns but the class's, as numbers."""
    columns = [i for i in range(len(table.rows[0])) if i != label]
    values = np.empty((len(table.rows), len(columns)), dtype=np.float32)
    for place, i in enumerate(columns):
        if not all(_is_number(row[i]) for row in table.rows):
            raise DataError(_no_number(table, i))
        values[:, place] = [float(row[i]) for row in table.rows]
    return values


def _column(table: _Table, asked: str) -> int:
    """Which column holds the class."""
    count = len(table.rows[0])
    names = table.header or []
    if not asked:
        called = [i for i, name in enumerate(names) if name.lower() in _NAMES]
        return called[0] if len(called) == 1 else count - 1
    if asked in names:
        return names.index(asked)
    if re.fullmatch(r"[0-9]{1,9}", asked) and 1 <= int(asked) <= count:
        return int(asked) - 1
    raise unknown(f"column of {table.file.name}", asked, names or [f"1 to {count}"])


def _no_number(table: _Table, column: int) -> str:
    row, field = next((n, fields[column]) for n, fields in enumerate(table.rows) if not _is_number(fields[column]))
    what = "has no value" if field.lower() in _MISSING else f"holds {field[:40]!r}"
    return (
        f"{table.file}, column {table.name(column)}, {what} in {_where(table, row)}: features are numbers; encode"
        " text and fill what is missing first, or name the column of the class behind a #, as in csv:PATH#1"
    )


def _where(table: _Table, row: int) -> str:
    return f"row {row + 1 + (table.header is not None)}"


def _reads_as_number(field: str) -> bool:
    """Also of what is missing or infinite, which no name of a column is."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def _is_number(field: str) -> bool:
    return _reads_as_number(field) and math.isfinite(float(field))


def _is_whole(field: str) -> bool:
    return _is_number(field) and float(field).is_integer() and abs(float(field)) < 2**53
