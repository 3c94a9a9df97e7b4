"""The table's rows of finished runs, kept in one file, so that a table of many runs opens quickly."""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from lessonplan.errors import LessonplanWarning
from lessonplan.files import read_json_lines
from lessonplan.lab.job import EVALUATED, Job
from lessonplan.lab.results import run_row
from lessonplan.version import __version__

NAME = ".rows.jsonl"
_JUDGED_BY = ("result.json", f"{EVALUATED}/evaluation.json")


class KeptRows:
    """Rows by run; a row counts while the files that it was made of are as they were.

    Only who holds the comparison's folder may write; a line that a killed process left unfinished is made up for.

    Args:
        root: the comparison's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._file = root / NAME
        with warnings.catch_warnings():  # a damaged line costs a look at its run, and is no news to anybody
            warnings.simplefilter("ignore", LessonplanWarning)
            lines = read_json_lines(self._file)
        self._kept = {line["folder"]: line for line in lines if isinstance(line.get("folder"), str)}

    def row(self, job: Job, error: str | None) -> dict[str, Any]:
        """As ``run_row``."""
        if error is not None:
            return run_row(job, self.root, error)
        stamp = _stamp(job)
        if stamp is None:
            return run_row(job, self.root, None)
        folder = self._below(job.folder)
        kept = self._kept.get(folder)
        if kept is not None and kept.get("stamp") == stamp and isinstance(kept.get("row"), dict):
            return {**kept["row"]}
        row = run_row(job, self.root, None)
        if row["status"] == "finished":
            self._keep({"folder": folder, "stamp": stamp, "row": row})
        return row

    def _below(self, folder: Path) -> str:
        """As ``folder.relative_to(root).as_posix()``, which takes most of the time of a table of many runs."""
        whole, root = os.fspath(folder), f"{self.root}{os.sep}"
        if not whole.startswith(root):
            return folder.relative_to(self.root).as_posix()
        return whole[len(root) :].replace(os.sep, "/")

    def _keep(self, line: dict[str, Any]) -> None:
        self._kept[line["folder"]] = line
        with suppress(OSError), self._file.open("ab") as file:  # what is not kept is read again
            begun = file.tell()
            torn = begun > 0 and not _ends_a_line(self._file)
            file.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _stamp(job: Job) -> list[Any] | None:
    """What tells whether a row is still right, or None for an unfinished run."""
    found: list[Any] = [__version__, repr(job.evaluation) if job.evaluation is not None else None]
    folder = os.fspath(job.folder)
    for name in _JUDGED_BY[: 1 if job.evaluation is None else 2]:
        try:
            status = os.stat(f"{folder}/{name}")
        except OSError:
            return None
        found += [status.st_mtime_ns, status.st_size]
    return found
