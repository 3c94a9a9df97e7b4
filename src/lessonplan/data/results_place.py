"""Where results go: into a folder, and not where the next reader of the data would take them for samples."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from lessonplan.data.kinds import KINDS
from lessonplan.data.sources import guess
from lessonplan.errors import ConfigError, DataError


def results_folder(out: str | Path, what: str, *data: Any) -> Path:
    """A folder of results, which need not be there yet.

    Args:
        out: where it is to be.
        what: is worked at there, for the sentence: ``"the search"``.
        data: what is worked on, in any form that ``lessonplan.data.load`` takes.

    Raises:
        ConfigError: it is a file, or lies among the class folders of data.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: give a folder for {what}")
    refuse_among_classes(folder, *data)
    return folder


def refuse_among_classes(out: str | Path, *data: Any, named: str = "out ") -> None:
    """Refuse a place of results where they would be read as a class the next time, or as samples of one.

    Args:
        out: a folder or file that is going to be written, none of a URL.
        data: see ``results_folder``; only texts and paths name folders, and an empty text none.
        named: how the sentence begins.

    Raises:
        ConfigError: it lies among the class folders of one of them.
    """
    for spec in data:
        if isinstance(spec, (str, Path)) and spec and _among_classes(spec, Path(out)):
            raise ConfigError(
                f"{named}{out} lies among the class folders of {spec}, where it would be read as a class or as"
                " samples of one: give a folder elsewhere"
            )


def _among_classes(spec: str | Path, place: Path) -> bool:
    from lessonplan.data.folder import among_classes

    kind, colon, where = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    # What is wrong with data or folder, whoever opens them will say: a null in a name, somebody's home, a loop.
    with suppress(DataError, OSError, ValueError, RuntimeError):
        place = place.expanduser()
        if colon and kind == "folder":
            return among_classes(Path(where).expanduser(), place)
        if kind in KINDS and bool(colon) == bool(KINDS[kind].takes):
            return False
        path = Path(spec).expanduser()
        return path.is_dir() and guess(path) == "folder" and among_classes(path, place)
    return False
