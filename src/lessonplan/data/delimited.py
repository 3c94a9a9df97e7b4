"""Tables of numbers with a class in one column, as text: CSV and the files of the UCI repository."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
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
from lessonplan.errors import DataError, first_line, in_short, unknown

_NAMES = ("label", "class", "target", "y")
_MISSING = frozenset({"", "?", "na", "nan", "null", "none"})
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+")
_LONGEST = 1 << 20  # characters of a field; a file of one quoted field would fill memory


@dataclass(frozen=True)
class _Table:
    """A file's rows as text."""

    file: Path
    header: list[str] | None
    rows: list[list[str]]

    def named(self, label: int) -> tuple[str, ...] | None:
        """What the features are called; None without a header, or where two have one name."""
        names = tuple(name for i, name in enumerate(self.header or ()) if i != label)
        return names if names and len(set(names)) == len(names) else None

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
        table = _read(file, options.memory_limit)
        return Parts(_source(table, column), columns=table.named(_column(table, column)))
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
    return Parts(source, test, val=rows, columns=train.named(_column(train, column)))


def features(
    path: Path, count: int, options: Options, names: Sequence[str] | None = None
) -> tuple[list[str], Tensor, list[str]]:
    """The rows of a table for a network of ``count`` features, with or without their class.

    Args:
        path: a file as for :func:`from_csv`. Its columns are found by their names, in whatever order they stand;
            where it or training had none, by their places, and a column more than there are features is the class,
            which is not looked at.
        count: features that the network takes.
        options: memory.
        names: what they were called in training, in the order in which the network takes them.

    Returns:
        Which row of the file each is (``"row 2"``), ``(N, count)`` float32, and the names of columns that are
        neither features nor called as a class.

    Raises:
        DataError: features that are not there, other numbers of columns, or what is no number.
    """
    where, column = _split(path)
    table = _read(where, options.memory_limit, least=1)
    told = [_where(table, row) for row in range(len(table.rows))]
    if names is not None and table.header is not None:
        missing = [name for name in names if table.header.count(name) != 1]
        if missing:
            there = "is not" if missing[0] not in table.header else "is more than once"
            raise DataError(
                f"the network takes {in_short(names)}, and {missing[0]!r} {there} among the columns of {where}"
                f" ({in_short(table.header)}): name them as in training, or leave out the row of names"
            )
        left = [name for name in table.header if name not in (*names, column) and name.lower() not in _NAMES]
        return told, to_samples(_values(table, [table.header.index(name) for name in names])), left
    columns = len(table.rows[0])
    if columns not in (count, count + 1):
        raise DataError(
            f"{where} has {columns} columns, and the network takes {count} features: give these, and the class"
            " beside them or not"
        )
    label = None if columns == count else _column(table, column)
    return told, to_samples(_values(table, _without(table, label))), []


def _split(path: Path) -> tuple[Path, str]:
    """A path, and the column behind its last ``#``; a path that is there may hold such signs itself."""
    where, mark, column = str(path).rpartition("#")
    return (Path(where), column) if mark and not path.exists() else (path, "")


def _read(file: Path, memory_limit: int, *, least: int = 2) -> _Table:
    """A file's rows, of at least so many fields: a feature and the class, to learn from."""
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
        if len(row) != len(rows[0]) or len(row) < least:
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
    guessed = not column and not _called_as_class(table)
    values = to_samples(_values(table, _without(table, label), guessed))
    if not whole and all(map(_is_number, classes)):
        row = next(n for n, name in enumerate(classes) if not _is_whole(name))
        raise DataError(
            f"{table.file}, column {table.name(label)}, holds {classes[row]} in {_where(table, row)}: labels must"
            " be classes, and these have fractions; sort them into classes, or name another column behind a #"
        )
    labels, names = to_labels([int(float(name)) for name in classes] if whole else classes)
    if known is not None:
        unseen = [name for name in names if name not in known]
        if unseen:
            raise DataError(f"{table.file} has the class {unseen[0]!r}, which training has not")
        labels = torch.tensor([known.index(name) for name in names])[labels]
    return TensorSource(values, labels, known or names)


def _without(table: _Table, label: int | None) -> list[int]:
    """All columns but the class's."""
    return [i for i in range(len(table.rows[0])) if i != label]


def _values(table: _Table, columns: Sequence[int], guessed: bool = False) -> npt.NDArray[np.float32]:
    """Columns as numbers; where the class's was ``guessed``, it may be one of these."""
    values = np.empty((len(table.rows), len(columns)), dtype=np.float32)
    for place, i in enumerate(columns):
        if not all(_is_number(row[i]) for row in table.rows):
            raise DataError(_no_number(table, i, guessed))
        values[:, place] = [float(row[i]) for row in table.rows]
    return values


def _column(table: _Table, asked: str) -> int:
    """Which column holds the class."""
    count = len(table.rows[0])
    names = table.header or []
    if not asked:
        called = _called_as_class(table)
        return called[0] if len(called) == 1 else count - 1
    if asked in names:
        return names.index(asked)
    if re.fullmatch(r"[0-9]{1,9}", asked) and 1 <= int(asked) <= count:
        return int(asked) - 1
    raise unknown(f"column of {table.file.name}", asked, names or [f"1 to {count}"])


def _called_as_class(table: _Table) -> list[int]:
    """The columns that are called as a class."""
    return [i for i, name in enumerate(table.header or []) if name.lower() in _NAMES]


def _no_number(table: _Table, column: int, guessed: bool) -> str:
    row, field = next((n, fields[column]) for n, fields in enumerate(table.rows) if not _is_number(fields[column]))
    what = "has no value" if field.lower() in _MISSING else f"holds {field[:40]!r}"
    comma = next((fields[column] for fields in table.rows if _DECIMAL_COMMA.fullmatch(fields[column])), None)
    if comma is not None:
        what, advice = f"holds {comma!r}", "write numbers with a point, not a comma"
    else:
        advice = "encode text and fill what is missing first"
        advice += ", or name the column of the class behind a #, as in csv:PATH#1" if guessed else ""
        what = f"{what} in {_where(table, row)}"
    return f"{table.file}, column {table.name(column)}, {what}: features are numbers; {advice}"


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
