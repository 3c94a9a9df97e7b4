"""How far a running comparison is, from what its runs have stored so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lessonplan.lease import holder_of
from lessonplan.report.comparison_curves import curve_axes
from lessonplan.report.formatting import number
from lessonplan.report.overlays import Stored
from lessonplan.report.palette import Style, styles
from lessonplan.report.reading import Json, Run, inside, known_at, read_results, read_run

REFRESH_SECONDS = 10
_MOST_CURVES = 20  # runs of a method whose curves are read: the page must not take the machine from the runs


def live_context(folder: Path, at_work: bool | None = None) -> dict[str, Any]:
    """What the page of a running comparison shows.

    Args:
        folder: of the comparison.
        at_work: whether somebody is at work in what the folder is a copy of; None where it is none, and each run's
            own lease tells.

    Raises:
        DataError: it is no comparison, or a file in it is damaged.
    """
    results = read_results(folder)
    methods = [_method(folder, method, at_work) for method in results["methods"]]
    total = {name: sum(method[name] for method in methods) for name in ("done", "running", "failed", "waiting")}
    names = [method["name"] for method in methods]
    reference = results.get("reference")
    looks = styles(names, reference if reference in names else None)
    stored = {method["name"]: method["curves"] for method in methods}
    going = total["running"] + total["waiting"] > 0
    return {
        "title": str(results.get("title")),
        "methods": methods,
        "total": {**total, "all": sum(total.values())},
        "left": _left([run for method in methods for run in method["remaining"]], total["running"]),
        "failures": [
            failure
            for failure in results.get("failures") or []
            if isinstance(failure, dict) and "error" in failure
        ],
        "curves": _curves(stored, looks, number(results.get("level")) or 0.95),
        "looks": looks,
        "refresh": REFRESH_SECONDS if going else None,
    }


def _curves(stored: Stored, looks: dict[str, Style], level: float) -> list[dict[str, Any]]:
    """The first group of a comparison's panels, against the first axis; the whole page comes at the end."""
    axes = curve_axes(stored, looks, level) if any(stored.values()) else []
    panels: list[dict[str, Any]] = axes[0]["groups"][0]["panels"] if axes else []
    return panels


def _method(folder: Path, method: Json, at_work: bool | None) -> Json:
    """Its runs counted, how many seconds each of the unfinished ones still takes, and runs with curves."""
    rows = method.get("runs") or []
    took = [seconds for row in rows if row.get("status") == "finished" and (seconds := number(row.get("seconds")))]
    usual = sum(took) / len(took) if took else None
    counts = dict.fromkeys(("done", "running", "failed", "waiting"), 0)
    remaining: list[float | None] = []
    read: list[Run] = []
    for row in rows:
        path = inside(folder, row.get("folder"))
        status = _status(row, path, at_work)
        counts[status] += 1
        if status in ("running", "waiting"):
            run = read_run(path) if path is not None and status == "running" else None
            spent = known_at(run.epochs[-1], "seconds") if run is not None and run.epochs else None
            remaining.append(None if usual is None else max(0.0, usual - (spent or 0.0)))
        if path is not None and status != "waiting" and len(read) < _MOST_CURVES:
            read.append(read_run(path))
    curves = [run for run in read if run.epochs]
    return {"name": str(method["name"]), **counts, "remaining": remaining, "curves": curves}


def _status(row: Json, path: Path | None, at_work: bool | None) -> str:
    """Of a run: the table says so late, its folder at once. In a copy whatever was begun is taken for running."""
    if row.get("status") in ("finished", "failed"):
        return "done" if row["status"] == "finished" else "failed"
    if path is None:
        return "waiting"
    if (path / "result.json").exists():
        return "done"
    running = holder_of(path) is not None if at_work is None else at_work
    return "running" if running else "waiting"


def _left(remaining: Sequence[float | None], running: int) -> float | None:
    """Seconds until all runs are over, as many at a time as now; None while nothing tells.

    >>> _left([60.0, 20.0, 100.0], running=2), _left([], running=0), _left([None], running=1)
    (90.0, 0.0, None)
    >>> _left([60.0], running=0) is None  # nobody works
    True
    """
    if not remaining:
        return 0.0
    known = [seconds for seconds in remaining if seconds is not None]
    if not known or not running:
        return None
    return sum(known) * (len(remaining) / len(known)) / running
