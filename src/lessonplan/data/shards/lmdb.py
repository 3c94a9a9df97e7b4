"""LMDB environments as LSUN has them: one for each class and part, an encoded picture behind every key."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from lessonplan.data.base import Options, Parts
from lessonplan.data.encoded import Labelled, build_parts, file_key
from lessonplan.data.labels import Unlabelled
from lessonplan.data.shards.index import COPIED, Reading, Rows, appended, indexed
from lessonplan.data.shards.pictures import Shards
from lessonplan.data.store import LARGEST
from lessonplan.data.walk import printable
from lessonplan.errors import DataError, LessonplanWarning
from lessonplan.lmdb_entries import DATA, entries

_NAME = re.compile(r"(?:(?P<label>.+?)_)?(?P<part>train|test|val)(?:_lmdb|\.lmdb)?", re.IGNORECASE)
_ENDING = re.compile(r"(_lmdb|\.lmdb)$", re.IGNORECASE)
_PARTS = {"train": "train", "test": "test", "val": "validation"}


def from_lmdb(where: Path, options: Options) -> Parts:
    """Sources from LMDB environments, as LSUN (arXiv:1506.03365) is distributed.

    Args:
        where: an environment (a folder with ``data.mdb``, or that file), which is one class named after its
            folder; or a folder of some, ``CLASS_train_lmdb``, ``CLASS_val_lmdb`` and ``test_lmdb``, whose pictures
            are unlabelled and left out. Without a test part the validation part is for testing; where no name says
            a part, all are for training.
        options: see ``Options``.

    The pictures are copied once to where indices are kept, and read from there.

    Raises:
        ConfigError: lmdb is not installed. DataError: no environments, damaged ones, or values that are no
            pictures.
    """
    where = where.parent if where.name == DATA and where.is_file() else where
    if (where / DATA).is_file():
        return build_parts({"train": [where]}, lambda folders: _read(folders, [_label(where)]), options)
    folders = _below(where)
    named = {folder: _part_of(folder.name) for folder in folders}
    if not any(named.values()):
        return build_parts({"train": folders}, lambda some: _read(some, [_label(f) for f in some]), options)
    silent = next((folder for folder, found in named.items() if found is None), None)
    if silent is not None:
        raise DataError(
            f"{silent} says no part of a set, as the others in {where} do: name it CLASS_train_lmdb or"
            " CLASS_val_lmdb"
        )
    parts: dict[str, list[Path]] = {"train": []}
    for folder, found in named.items():
        assert found is not None
        parts.setdefault(_PARTS[found["part"].lower()], []).append(folder)
    if not parts["train"]:
        raise DataError(f"{where} holds no CLASS_train_lmdb to train on: fetch it, or give one folder with {DATA}")

    def read(some: Sequence[Path]) -> Labelled:
        labels = [found["label"] for folder in some if (found := named[folder]) is not None]
        if not all(labels):
            raise Unlabelled(f"{some[0]} names no class: call it CLASS_train_lmdb")
        return _read(some, [printable(label) for label in labels])

    return build_parts(parts, read, options)


def _part_of(name: str) -> re.Match[str] | None:
    """The class and the part that a folder's name says; LSUN has objects that are called train, too."""
    found = _NAME.fullmatch(name)
    return None if found is None or (found["label"] is None and _ENDING.search(name) is None) else found


def _below(where: Path) -> list[Path]:
    folders = sorted(path.parent for path in where.glob(f"*/{DATA}")) if where.is_dir() else []
    if not folders:
        raise DataError(f"{where} holds no {DATA} and no folders with one: give the unpacked folders of LSUN")
    return folders


def _label(folder: Path) -> str:
    """The class of an environment that stands alone."""
    return printable(_ENDING.sub("", folder.resolve().name) or folder.resolve().name)


def _read(folders: Sequence[Path], labels: Sequence[str]) -> Labelled:
    files = [folder / DATA for folder in folders]
    index = indexed("lmdb", files, lambda place: _rows(files, place))
    return Shards(index).labelled([labels[number] for number in index.labels], None)


def _rows(files: Sequence[Path], place: Path) -> Rows:
    """Read all environments from their beginnings to their ends, once."""
    rows, copy = Rows(), place / "copied"
    copy.unlink(missing_ok=True)
    with Reading(files) as reading:
        for number, path in enumerate(files):
            size, passed = path.stat().st_size, 0
            for key, picture in entries(path.parent):
                name = printable(key.decode("utf-8", "backslashreplace"))
                if len(picture) > LARGEST:
                    raise DataError(f"{path} holds {name!r} of {len(picture)} bytes: at most {LARGEST} are read")
                start = appended(copy, picture)
                row = rows.add(number, start, picture, file_key(picture), group=COPIED, name=name)
                rows.label(row, number)
                passed += len(picture)
                reading.at(number, passed / size, len(rows))
    if not len(rows):
        raise DataError(f"{files[0]} and the {len(files) - 1} environments behind it hold no pictures")
    rows.more.append(copy)
    warnings.warn(
        f"{len(rows)} pictures of {files[0].parent}{' and others' if len(files) > 1 else ''} were copied to"
        f" {copy}, once, and are read from there",
        LessonplanWarning,
        stacklevel=2,
    )
    return rows
