"""From what a user calls data (a name, a path, arrays, a data set object) to sources."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

from lessonplan.data.base import Options, Parts, Source
from lessonplan.data.kinds import KINDS, Kind
from lessonplan.errors import DataError, unknown

_AT_ONCE = 2  # a set and its test set

_opened: ContextVar[dict[tuple[str, Options], Parts] | None] = ContextVar("_opened", default=None)


@contextmanager
def opening_once() -> Iterator[None]:
    """While this lasts, a name or a path is opened once for the same options: for runs that follow each other.

    Memory holds the last two: a set and the one that it is tested on.
    """
    token = _opened.set({})
    try:
        yield
    finally:
        _opened.reset(token)


def open_parts(spec: Any, options: Options) -> Parts:
    """Open data of any kind.

    Args:
        spec: a spelling of ``lessonplan.data.kinds``, such as ``"digits"`` or ``"folder:PATH"``; an existing path
            (its kind is found from what is there), a :class:`Source`, a pair of arrays ``(x, y)``, or a data set
            object with ``__getitem__`` and ``__len__``.
        options: image size, what to do with bad files, memory.

    Raises:
        ConfigError: a kind nobody knows.
        DataError: data that are missing or broken.
    """
    if isinstance(spec, (str, Path)):
        opened, key = _opened.get(), (str(spec), options)
        if opened is None:
            return _open_text(spec, options)
        if key not in opened:
            while len(opened) >= _AT_ONCE:
                del opened[next(iter(opened))]
            opened[key] = _open_text(spec, options)
        return replace(opened[key])  # the parts are put together anew, the sources are shared
    if isinstance(spec, Source):
        return Parts(spec)
    if isinstance(spec, tuple):
        from lessonplan.data.arrays import from_arrays

        if len(spec) != 2:
            raise DataError(f"data given as a tuple must be (x, y), not {len(spec)} things")
        return from_arrays(*spec)
    if hasattr(spec, "__getitem__") and hasattr(spec, "__len__"):
        from lessonplan.data.adapter import from_dataset

        return from_dataset(spec, options)
    raise DataError(
        f"data of type {type(spec).__name__} cannot be used: give a name, a path, (x, y), a Source, or an object "
        "with __getitem__ and __len__"
    )


def describe(spec: Any) -> str:
    """A specification as text for a report."""
    if isinstance(spec, (str, Path)):
        return str(spec)
    return "(x, y)" if isinstance(spec, tuple) else type(spec).__name__


def guess(path: Path) -> str:
    """The kind of data at a path.

    Raises:
        DataError: nothing known is there.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_file() and not path.is_dir():
        raise DataError(f"{path} is no file and no folder: give the path of data")
    names = [] if path.is_file() else [entry.name for entry in path.iterdir()]
    if path.is_file() or names:
        for name, kind in KINDS.items():
            if kind.lies_at(path, names):
                return name
    known = ", ".join(name for name, kind in KINDS.items() if kind.takes_path)
    raise DataError(f"{path} holds no data of a known kind: write KIND:PATH with one of {known}")


def _open_text(spec: str | Path, options: Options) -> Parts:
    if isinstance(spec, Path):
        return _read(KINDS[guess(spec)], spec, options)
    if not spec.strip():  # as a path it would be the folder that one is in
        raise DataError("data is an empty text: give a name or a path ('.' is the current folder)")
    name, colon, where = spec.partition(":")
    kind = KINDS.get(name)
    if kind is not None and bool(colon) == bool(kind.takes) and (where or not kind.takes_path):
        return _read(kind, Path(where).expanduser() if kind.takes_path else where, options)
    path = Path(spec).expanduser()
    if path.exists():
        return _read(KINDS[guess(path)], path, options)
    if not colon and ("/" in spec or path.suffix):
        raise DataError(f"{spec} does not exist")
    raise unknown("data", name if colon else spec, [kind.spelling for kind in KINDS.values()])


def _read(kind: Kind, where: Path | str, options: Options) -> Parts:
    """Read data of a kind; each reader is imported when it is needed."""
    module, _, name = kind.home.partition(":")
    read = getattr(importlib.import_module(f"lessonplan.data.{module}"), name)
    given = [where] if kind.takes else []
    parts: Parts = read(*given, options) if "options" in inspect.signature(read).parameters else read(*given)
    return parts
