"""From what a user calls data (a name, a path, arrays, a data set object) to sources."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lessonplan.data.base import Options, Parts, Source
from lessonplan.errors import DataError, unknown

KINDS = ("digits", "npz", "folder", "parquet", "idx", "cifar", "wav")


def open_parts(spec: Any, options: Options) -> Parts:
    """Open data of any kind.

    Args:
        spec: ``"digits"``, ``"table:NAME"``, ``"KIND:PATH"`` with KIND npz, folder, parquet, idx, cifar or
            wav, an existing path (its kind is found from what is there), a :class:`Source`, a pair of arrays
            ``(x, y)``, or a data set object with ``__getitem__`` and ``__len__``.
        options: image size, what to do with bad files, memory.

    Raises:
        ConfigError: a kind nobody knows.
        DataError: data that are missing or broken.
    """
    if isinstance(spec, Path):
        return _open_path(guess(spec), spec, options)
    if isinstance(spec, str):
        kind, colon, where = spec.partition(":")
        if spec == "digits":
            from lessonplan.data.arrays import digits

            return digits()
        if colon and kind == "table":
            from lessonplan.data.tables import table

            return table(where)
        if colon and kind in KINDS and kind != "digits" and where:
            return _open_path(kind, Path(where).expanduser(), options)
        path = Path(spec).expanduser()
        if path.exists():
            return _open_path(guess(path), path, options)
        if not colon and ("/" in spec or path.suffix):
            raise DataError(f"{spec} does not exist")
        known = ["digits", "table:NAME", *(f"{k}:PATH" for k in KINDS[1:])]
        raise unknown("data", kind if colon else spec, known)
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
    if path.is_file():
        if path.suffix in (".npz", ".parquet"):
            return path.suffix[1:]
        if "-ubyte" in path.name:
            return "idx"
        if path.suffix.lower() == ".zip":
            return "wav"
    else:
        names = [entry.name for entry in path.iterdir()]
        if any(name.startswith(("data_batch", "test_batch", "cifar-1")) for name in names) or "meta" in names:
            return "cifar"
        if any("-ubyte" in name for name in names):
            return "idx"
        if any(name.endswith(".parquet") for name in names):
            return "parquet"
        if "testing_list.txt" in names or any(name.lower().endswith(".wav") for name in names):
            return "wav"
        if any((path / name).is_dir() for name in names):
            return "wav" if _first_sample(path).lower().endswith(".wav") else "folder"
    raise DataError(f"{path} holds no data of a known kind: write KIND:PATH with one of {', '.join(KINDS[1:])}")


def _first_sample(path: Path) -> str:
    """The name of the first image or recording found below a folder, or nothing."""
    from lessonplan.data.pixels import SUFFIXES

    for _, folders, files in os.walk(path, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES | {".wav"}:
                return name
    return ""


def _open_path(kind: str, path: Path, options: Options) -> Parts:
    """Read one kind of files; each reader is imported when it is needed."""
    if kind == "npz":
        from lessonplan.data.arrays import from_npz

        return from_npz(path)
    if kind == "folder":
        from lessonplan.data.cub import cub_root, from_cub
        from lessonplan.data.folder import from_folder

        birds = cub_root(path)
        return from_folder(path, options) if birds is None else from_cub(birds, options)
    if kind == "wav":
        from lessonplan.data.recordings import from_wav

        return from_wav(path, options)
    if kind == "parquet":
        from lessonplan.data.parquet import from_parquet

        return from_parquet(path, options)
    if kind == "idx":
        from lessonplan.data.idx import from_idx

        return from_idx(path)
    from lessonplan.data.cifar import from_cifar

    return from_cifar(path)
