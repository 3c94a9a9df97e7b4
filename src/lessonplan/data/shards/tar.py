"""Tar shards as WebDataset has them: members ``KEY.ENDING``, those of one key are a sample."""

from __future__ import annotations

import fnmatch
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lessonplan.data.base import Options, Parts
from lessonplan.data.encoded import Labelled, build_parts, key_as_file
from lessonplan.data.kinds import IMAGE_ENDINGS
from lessonplan.data.labels import Unlabelled
from lessonplan.data.shards.index import Reading, Rows, indexed
from lessonplan.data.shards.pattern import by_part, matching
from lessonplan.data.shards.pictures import Shards
from lessonplan.data.shards.tape import Member, members
from lessonplan.data.store import LARGEST, is_hidden
from lessonplan.data.walk import left_out, printable
from lessonplan.errors import DataError

_LABELS = ("cls", "json", "txt")  # the first of them that says one counts
_FIELDS = ("label", "cls")
_LONGEST = {"cls": 4096, "json": 16 * 2**20, "txt": 4096}  # bytes of a label's member
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,14}")
_AT_ONCE = 2**20  # bytes read from the disk


def from_tar(where: Path, options: Options) -> Parts:
    """Sources from plain tar files: of a sample ``KEY`` its picture ``KEY.jpg`` and its label.

    The label is what ``KEY.cls`` says, or the field ``label`` or ``cls`` of ``KEY.json``, or ``KEY.txt``: a number
    or a name. Other members are left out, and counted.

    Args:
        where: a tar file, a folder of some, or a pattern with wildcards and braces (``shards.pattern``). Files
            whose names or folders say train, test or validation are the parts of a set.
        options: see ``Options``.

    Raises:
        DataError: no such files; files that are no plain tar files, or damaged; two pictures of one key, a picture
            without a label, or a label without a picture.
    """
    text = str(where)
    others: Counter[str] = Counter()

    def read(files: Sequence[Path]) -> Labelled:
        index = indexed("tar", files, lambda folder: _rows(files))
        others.update(index.told["others"])
        values = index.labels
        if values and all(value is None for value in values):
            raise Unlabelled(f"no picture in {files[0]} and the shards behind it {_HAS_NONE}")
        if any(isinstance(value, str) for value in values):  # a class called 7 beside one called cat
            values = [value if value is None else str(value) for value in values]
        return Shards(index).labelled(values, None)

    parts = build_parts(by_part(matching(text, ".tar"), text), read, options)
    if others:
        parts.notes["other_endings"] = left_out(others, text)
    return parts


_HAS_NONE = "has a label: add KEY.cls, KEY.json with the field label, or KEY.txt beside each KEY.jpg"


def _rows(files: Sequence[Path]) -> Rows:
    """Read all tar files from their beginnings to their ends, once."""
    rows = Rows()
    others: Counter[str] = Counter()
    with Reading(files) as reading:
        for number, path in enumerate(files):
            with path.open("rb", buffering=_AT_ONCE) as file:
                shard = _Shard(path, number, file, rows)
                size = path.stat().st_size
                for member in members(path, file, size):
                    shard.take(member)
                    reading.at(number, member.start / size, len(rows))
            shard.finish()
            others += shard.others
    if not len(rows):
        raise DataError(
            f"{files[0]} and the {len(files) - 1} shards behind it hold no pictures KEY.jpg, KEY.png, ..."
        )
    rows.told["others"] = dict(others.most_common(1000))
    return rows


@dataclass
class _Shard:
    """A tar file that is being read.

    Attributes:
        pictures: row and ending of each key's picture.
        labels: of each key, by the endings that say them.
        others: members that are neither.
    """

    path: Path
    number: int
    file: BinaryIO
    rows: Rows
    pictures: dict[str, tuple[int, str]] = field(default_factory=dict)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    def take(self, member: Member) -> None:
        """Take a member for what its ending says."""
        name = member.name
        while name.startswith("./"):
            name = name[2:]
        if is_hidden(name) or fnmatch.fnmatchcase(name.rpartition("/")[2], "__*__*"):
            return
        folder, slash, base = name.rpartition("/")
        stem, dot, ending = base.partition(".")
        key, ending = folder + slash + stem, ending.lower()
        if dot and f".{ending}" in IMAGE_ENDINGS:
            self._picture(key, ending, name, member)
        elif dot and ending in _LABELS:
            said = self.labels.setdefault(key, {})
            if ending in said:
                raise DataError(f"{self.path} holds {printable(name)!r} twice: keys must differ within a shard")
            said[ending] = self._label(ending, member)
        else:
            self.others[f".{ending.rpartition('.')[2]}" if dot else ""] += 1

    def _label(self, ending: str, member: Member) -> int | str | _Unusable | None:
        """What a member says; beside one that counts more, it does not matter that it cannot be used."""
        what = f"{self.path}: {printable(member.name)!r}"
        if member.size > _LONGEST[ending]:
            return _Unusable(f"{what} has {member.size} bytes: a label has at most {_LONGEST[ending]}")
        return _label(ending, self._read(member), what)

    def _picture(self, key: str, ending: str, name: str, member: Member) -> None:
        if key in self.pictures:
            before = f"{printable(key)}.{self.pictures[key][1]}"
            raise DataError(
                f"{self.path} holds two pictures of one key, {before!r} and {printable(name)!r}: keys must differ"
                " within a shard"
            )
        if member.size > LARGEST:
            raise DataError(
                f"{self.path} holds the picture {printable(name)!r} of {member.size} bytes: at most {LARGEST}"
                " are read"
            )
        picture = self._read(member)
        row = self.rows.add(
            self.number, member.start, picture, key_as_file(picture, f".{ending}"), name=printable(name)
        )
        self.pictures[key] = row, ending

    def _read(self, member: Member) -> bytes:
        self.file.seek(member.start)
        found = self.file.read(member.size)
        if len(found) < member.size:
            raise DataError(f"{self.path} was cut off while it was read: begin again when it is whole")
        return found

    def finish(self) -> None:
        """Give each picture its label.

        Raises:
            DataError: a label has no picture, some pictures have no label, or one that cannot be used.
        """
        stray = next((key for key in self.labels if key not in self.pictures), None)
        if stray is not None:
            names = ", ".join(f".{ending}" for ending in self.labels[stray])
            count = len(self.labels.keys() - self.pictures.keys())
            raise DataError(
                f"{self.path} holds {count} labels without a picture, such as {printable(stray)!r} with {names}"
                " alone: pack it again with the pictures, or without these"
            )
        bare = []
        for key, (row, ending) in self.pictures.items():
            said = self.labels.get(key, {})
            value = next((said[name] for name in _LABELS if said.get(name) is not None), None)
            if isinstance(value, _Unusable):
                raise DataError(value.why)
            bare += [f"{printable(key)}.{ending}"] if value is None else []
            self.rows.label(row, value)
        if 0 < len(bare) < len(self.pictures):
            raise DataError(
                f"{self.path}: {len(bare)} of {len(self.pictures)} pictures have no label, such as {bare[0]!r}:"
                " add KEY.cls, KEY.json with the field label, or KEY.txt, or leave them out"
            )


@dataclass(frozen=True)
class _Unusable:
    """A label that cannot be used, in one sentence."""

    why: str


def _label(ending: str, content: bytes, what: str) -> int | str | _Unusable | None:
    """The label that a member says, None where it says none."""
    try:
        text = content.decode("utf-8").strip()
        value = json.loads(text) if ending == "json" else text
    except (ValueError, RecursionError) as e:
        return _Unusable(f"{what} cannot be read as {'JSON' if ending == 'json' else 'text'} ({str(e)[:100]})")
    if ending != "json":
        return int(text) if _NUMBER.fullmatch(text) else text or None
    if isinstance(value, dict):
        value = next((value[name] for name in _FIELDS if value.get(name) is not None), None)
    elif not isinstance(value, (int, str)):
        value = None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if value is None or (isinstance(value, (int, str)) and not isinstance(value, bool)):
        return value
    return _Unusable(f"{what} has the label {str(value)[:100]}: give one class number or name")
