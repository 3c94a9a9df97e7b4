"""A comparison's metrics by epoch in one small file, for a folder that is passed on without its runs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lessonplan.errors import DataError, first_line
from lessonplan.files import read_json_lines, write_atomically
from lessonplan.stored import read_packed

NAME = "metrics.jsonl.gz"
_LONG = ("candidates_each", "kept_each")  # a number a raw batch, which a control needs and a curve does not


def keep_metrics(root: Path, runs: Iterable[Path]) -> None:
    """Write the lines of ``metrics.jsonl`` of all runs of a comparison, compressed.

    Args:
        root: the comparison's folder.
        runs: folders of runs inside of it; those without a line are left out.
    """
    lines = [
        {"run": run.relative_to(root).as_posix(), **_short(line)}
        for run in runs
        for line in read_json_lines(run / "metrics.jsonl")
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_atomically(root / NAME, gzip.compress(text.encode(), compresslevel=6, mtime=0))


def read_kept(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of each run by its folder, oldest first; nothing where no file was kept.

    Raises:
        DataError: the file is damaged.
    """
    file = root / NAME
    kept: dict[str, list[dict[str, Any]]] = {}
    if not file.is_file():
        return kept
    again = "repeat the comparison to write it again"
    lines = read_packed(file, again)
    try:
        for line in map(json.loads, lines.splitlines()):
            kept.setdefault(str(line.pop("run")), []).append(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged ({first_line(error)}): {again}") from error
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{file} has a line that is of no run: {again}") from None
    return kept


def _short(line: dict[str, Any]) -> dict[str, Any]:
    select = line.get("select")
    if not isinstance(select, dict):
        return line
    return {**line, "select": {name: value for name, value in select.items() if name not in _LONG}}
