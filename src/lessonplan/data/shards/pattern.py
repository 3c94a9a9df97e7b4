"""Which files a pattern names, and which part of a set each of them belongs to."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from lessonplan.data.folder import TESTS, TRAIN
from lessonplan.data.join import VALIDATION
from lessonplan.errors import ConfigError, DataError

_MOST = 100_000  # files that one pattern may spell out
_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.(-?\d{1,18}))?")
_WILD = re.compile(r"[*?\[]")
_WORDS = {
    **dict.fromkeys(TRAIN, "train"),
    **dict.fromkeys(TESTS, "test"),
    **dict.fromkeys(VALIDATION, "validation"),
}


def is_pattern(text: str) -> bool:
    """Whether a text names files by wildcards, braces or several paths between ``::``.

    >>> is_pattern("a-{0..3}.tar"), is_pattern("a-*.tar"), is_pattern("a.tar")
    (True, True, False)
    """
    return not os.path.exists(text) and bool(_WILD.search(text) or "::" in text or expanded(text) != [text])


def expanded(text: str) -> list[str]:
    """Braces written out, from left to right, as shells and WebDataset do.

    Args:
        text: with ``{a,b}``, ``{0..9}``, ``{000..090..10}``, several in a row or in one another.

    Raises:
        ConfigError: more than 100,000 names.

    >>> expanded("s-{08..10}.tar"), expanded("{a,b}{1,2}")
    (['s-08.tar', 's-09.tar', 's-10.tar'], ['a1', 'a2', 'b1', 'b2'])
    """
    for start in (at for at, sign in enumerate(text) if sign == "{"):
        end, commas = _closing(text, start)
        choices = _range(text[start + 1 : end]) if end and not commas else []
        if commas:
            cuts = [start, *commas, end]
            pieces = [text[a + 1 : b] for a, b in itertools.pairwise(cuts)]
            choices = [name for piece in pieces for name in expanded(piece)]
        if choices:
            rest = expanded(text[end + 1 :])
            if len(choices) * len(rest) > _MOST:
                raise ConfigError(f"{text} spells out more than {_MOST} files: give wildcards instead")
            return [f"{text[:start]}{choice}{tail}" for choice in choices for tail in rest]
    return [text]


def _closing(text: str, start: int) -> tuple[int, list[int]]:
    """Where the brace that opens at ``start`` closes (0 if nowhere), and the commas right inside of it."""
    depth = 0
    commas: list[int] = []
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return at, commas
        if text[at] == "," and depth == 1:
            commas.append(at)
    return 0, []


def _range(inner: str) -> list[str]:
    """The numbers of ``000..099``; none where it is no range."""
    found = _RANGE.fullmatch(inner)
    if found is None:
        return []
    first, last, step = found[1], found[2], abs(int(found[3] or 1)) or 1
    start, end = int(first), int(last)
    if abs(end - start) // step >= _MOST:
        raise ConfigError(f"{{{inner}}} spells out more than {_MOST} files: give wildcards instead")
    padded = any(len(text.lstrip("-")) > 1 and text.lstrip("-").startswith("0") for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    numbers = range(start, end + 1, step) if start <= end else range(start, end - 1, -step)
    return [f"{number:0{width}d}" for number in numbers]


def matching(text: str, ending: str) -> list[Path]:
    """The files that a path or a pattern names: those with wildcards sorted, others in the order of their braces.

    Args:
        text: a file, a folder (whose files with the ending are meant, and those in its folders that are named as
            parts of a set), or a pattern; several between ``::``.
        ending: of the files in a folder, ``".tar"``.

    Raises:
        DataError: no file matches, or one that is spelled out is missing. ConfigError: an address on the network.
    """
    found: dict[Path, None] = {}
    for piece in [text] if os.path.exists(text) else text.split("::"):
        if re.match(r"[a-z0-9+]+:/", piece) or piece.startswith("pipe:"):
            raise ConfigError(f"{piece} is no path: shards are read from files, so mount the storage or copy them")
        for path in _of_one(os.path.expanduser(piece), ending):
            found[path] = None
    return list(found)


def _of_one(text: str, ending: str) -> list[Path]:
    if os.path.isdir(text):
        files = _below(Path(text), ending)
        if not files:
            raise DataError(f"{text} holds no {ending} files: give the folder with the shards, or a pattern")
        return files
    if os.path.exists(text):
        return [Path(text)]
    names = expanded(text)
    files = []
    for name in names:
        wild = _WILD.search(name) and not os.path.exists(name)
        files += sorted(map(Path, glob.glob(name, recursive=True))) if wild else [Path(name)]
    missing = [path for path in files if not path.exists()]
    if not files or len(missing) == len(files):
        raise DataError(
            f"no file matches {text}: give shards as path/name-{{0000..0099}}{ending} or path/*{ending}"
        )
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(files)} files that {text} names do not exist, such as {missing[0]}: fetch"
            " them, or name those that are there"
        )
    folder = next((path for path in files if not path.is_file()), None)
    if folder is not None:
        raise DataError(f"{folder}, which {text} matches, is no file: give a pattern of shards alone")
    return files


def _below(folder: Path, ending: str) -> list[Path]:
    """The shards in a folder, then those in its folders that are named as parts."""
    inside = sorted(f for f in folder.iterdir() if f.is_dir() and f.name.lower() in _WORDS)
    places = [folder, *inside]
    files = itertools.chain.from_iterable(sorted(place.iterdir()) for place in places)
    return [f for f in files if f.name.lower().endswith(ending) and not f.name.startswith(".") and f.is_file()]


def by_part(files: Sequence[Path], text: str) -> dict[str, list[Path]]:
    """Files by the part of the set that their names or folders say: train, test or validation.

    Only what differs between the files is looked at; where nothing says a part, or all say the same one, all are
    one set.

    Raises:
        DataError: some files say a part and others none, or there are parts and none to train on.
    """
    common = Path(os.path.commonpath([path.parent for path in files]))
    said = {path: _part_of(path.relative_to(common)) for path in files}
    parts = set(said.values())
    if len(parts) == 1:
        return {"train": list(files)}
    silent = next((path for path in files if said[path] is None), None)
    if silent is not None or "train" not in parts:
        named = ", ".join(sorted(str(part) for part in parts if part is not None))
        what = f"{silent} belongs to none of them" if silent is not None else "none is to train on"
        raise DataError(
            f"the files of {text} are named as parts of a set ({named}), and {what}: name all of them so"
        )
    grouped: dict[str, list[Path]] = {"train": []}
    for path in files:
        grouped.setdefault(str(said[path]), []).append(path)
    return grouped


def _part_of(below: Path) -> str | None:
    """The part that the words of a path say, the last one first.

    >>> _part_of(Path("imagenet1k-validation-07.tar")), _part_of(Path("train/0001.tar")), _part_of(Path("7.tar"))
    ('validation', 'train', None)
    """
    words = re.findall(r"[a-z]+", below.as_posix().lower())
    return next((_WORDS[word] for word in reversed(words) if word in _WORDS), None)
