"""Files below a folder: once each, without what archives leave behind, and what is left out counted."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lessonplan.errors import LessonplanWarning

_LEFTOVERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__"}
)
_BESIDE = frozenset(
    {".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".db", ".ini", ".html", ".yaml", ".yml", ".py", ".lnk"}
)
"""Endings of files that lie beside pictures and are none."""
_CAMERAS = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf"}
)
"""Endings of pictures as telephones and cameras store them, which are not read."""


@dataclass
class Found:
    """Files with a wanted ending, and how many others there were by their endings (in small letters)."""

    files: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def subfolders(root: Path) -> list[Path]:
    """The folders in a folder, by name, without hidden ones and leftovers of archives."""
    return sorted(e for e in root.iterdir() if e.is_dir() and not unwanted(e.name))


def files_below(folder: Path, endings: Collection[str], apart: Collection[Path] = ()) -> Found:
    """All files with one of the endings below a folder, hidden ones excepted, in the order of their paths.

    Symbolic links are followed, but no folder is read twice, none that holds this one, and none of ``apart``.

    Args:
        folder: where to begin.
        endings: in small letters, ``".png"``.
        apart: folders that are somebody else's.
    """
    found = Found()
    for where, files in walk(folder, apart):
        for name in files:
            ending = os.path.splitext(name)[1].lower()
            if not os.path.isfile(os.path.join(where, name)):  # a link to nowhere, a pipe that would be waited for
                continue
            if ending in endings:
                found.files.append(Path(where, name))
            else:
                found.others[ending] += 1
    found.files.sort()
    return found


def any_below(folder: Path, endings: Collection[str]) -> bool:
    """Whether there is one."""
    return any(os.path.splitext(name)[1].lower() in endings for _, files in walk(folder) for name in files)


def walk(folder: Path, apart: Collection[Path] = ()) -> Iterator[tuple[str, list[str]]]:
    """Each folder once, with the names of its files that are not hidden; see ``files_below``."""
    start = os.path.realpath(folder)
    seen = {os.path.realpath(path) for path in apart} - {start}
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen or (real != start and f"{start}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}")):
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not unwanted(name))
        yield where, [name for name in files if not name.startswith(".")]


def unwanted(name: str) -> bool:
    """Whether a folder of this name is not read: it is hidden, or left over from an archive."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def lies_in(folder: Path, name: str) -> bool:
    """Whether a list may name this file: it is there, and does not lead out of the folder.

    >>> lies_in(Path("."), "../x.png")
    False
    """
    path = os.path.normpath(name)
    below = not (os.path.isabs(path) or path == os.pardir or path.startswith(os.pardir + os.sep))
    return below and os.path.isfile(os.path.join(folder, name))  # False for names that no file can have


def printable(name: str) -> str:
    """A file's name as text that can be written: one Unicode form, bytes that are no UTF-8 as ``\\xe9``.

    >>> printable("caf\\udce9"), printable("e\\u0301") == "\\u00e9"
    ('caf\\\\xe9', True)
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)


def strange_endings(others: Counter[str]) -> Counter[str]:
    """The endings that may be pictures or recordings: all but those of texts and tables beside them."""
    return Counter({ending: count for ending, count in others.items() if ending not in _BESIDE})


def left_out(others: Counter[str], where: object) -> dict[str, int]:
    """Files by their endings that were left out, for the notes on a set; a warning if they may be samples."""
    strange = strange_endings(others)
    if strange:
        warnings.warn(
            f"{strange.total()} files below {where} are left out, for their endings are not read:"
            f" {in_words(strange)}{to_convert(strange)}",
            LessonplanWarning,
            stacklevel=3,
        )
    return dict(others.most_common())


def to_convert(others: Counter[str]) -> str:
    """What makes samples of pictures that are not read, behind what is said of them; nothing where none are.

    >>> to_convert(Counter({".heic": 3, ".mov": 1, ".avif": 1}))
    '; save .heic and .avif as JPEG or PNG'
    >>> to_convert(Counter({".mov": 1}))
    ''
    """
    kinds = [ending for ending, _ in others.most_common() if ending in _CAMERAS]
    return f"; save {' and '.join(kinds)} as JPEG or PNG" if kinds else ""


def in_words(others: Counter[str]) -> str:
    """Endings and how many there are, the most frequent first.

    >>> in_words(Counter({".heic": 3, "": 1}))
    '.heic (3), no ending (1)'
    """
    return ", ".join(f"{ending or 'no ending'} ({count})" for ending, count in others.most_common())
