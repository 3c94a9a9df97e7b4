"""Writing the pages: one self-contained HTML file for a comparison, one for each run."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from lessonplan.errors import DataError
from lessonplan.progress import step
from lessonplan.report.advice import write_advice
from lessonplan.report.comparison import comparison_context
from lessonplan.report.data_check import write_data_check
from lessonplan.report.evaluation import write_evaluation
from lessonplan.report.gains import gain_panels
from lessonplan.report.lr import write_lr
from lessonplan.report.ordering import write_ordering
from lessonplan.report.reading import inside, read_results, read_run
from lessonplan.report.render import write_page
from lessonplan.report.run import run_context
from lessonplan.report.tune import write_tune
from lessonplan.report.watched import comparison_note
from lessonplan.stored import read_json


def write_comparison(folder: Path) -> Path:
    """Write ``index.html`` of a comparison from what its folder holds.

    Args:
        folder: holds ``results.json`` and ``runs/``; ``examples/``, ``figures/`` and ``source.json`` are
            shown where they are. A run's own page is linked if it has been written (see :func:`write_run`).

    Returns:
        The path of the page.

    Raises:
        DataError: if the folder is no comparison, is damaged, or the page cannot be written.
    """
    folder = Path(folder)
    return write_page(folder, "comparison.html", lambda: comparison_context(folder, read_results(folder)))


def write_run(folder: Path) -> Path:
    """Write ``index.html`` of one run, finished or not, from what its folder holds.

    Args:
        folder: holds any of ``metrics.jsonl``, ``config.yaml`` and ``result.json``.

    Returns:
        The path of the page.

    Raises:
        DataError: if the folder holds none of the three, one is damaged, or the page cannot be written.
    """
    folder = Path(folder)
    run = read_run(folder)
    if not (run.config or run.epochs or run.result):
        raise DataError(f"{folder} is no run: it has no metrics.jsonl, config.yaml or result.json with content")
    return write_page(folder, "run.html", lambda: run_context(run))


def write_overview(folder: Path) -> Path:
    """Write ``index.html`` over several comparisons from ``overview.json``.

    Args:
        folder: ``overview.json`` in it holds ``title``, ``parts``, the names of its comparisons' folders, and
            perhaps ``claims``, sentences on all of them, and ``gains``, figures over them (see ``gain_panels``).

    Returns:
        The path of the page.

    Raises:
        DataError: a file is missing or damaged, or the page cannot be written.
    """
    folder = Path(folder)
    about = read_json(folder / "overview.json")

    def context() -> dict[str, Any]:
        entries = []
        results_of = {}
        for name in _parts(folder, about):
            results = read_results(folder / name)
            findings = [method["finding"] for method in results["methods"]]
            note = comparison_note(results)
            entries.append(
                {"name": name, "link": f"{quote(name)}/index.html", "findings": findings, "watched": note}
            )
            results_of[name] = results
        return {
            "title": about["title"],
            "entries": entries,
            "claims": about.get("claims", []),
            "gains": gain_panels(about.get("gains", []), results_of),
        }

    return write_page(folder, "overview.html", context)


def _parts(folder: Path, about: dict[str, Any]) -> list[str]:
    """The parts' folders, all of them inside.

    Raises:
        DataError: one leads elsewhere.
    """
    names = about.get("parts")
    found = [inside(folder, name) for name in names] if isinstance(names, list) else [None]
    if None in found or folder.resolve() in found:
        raise DataError(f"{folder / 'overview.json'} names parts that are no folders in {folder}: put it back")
    return [str(name) for name in names or ()]


def write_pages(folder: Path) -> Path:
    """Write the pages of any folder of ours again: of several comparisons, of one, of a run,
    of a search, of an evaluation, of a range test, of a look at the data, of a tournament, or of a tuning.

    Returns:
        The page to begin with.

    Raises:
        DataError: the folder holds nothing of ours.
    """
    folder = Path(folder)
    if (folder / "evaluation.json").exists():
        return write_evaluation(folder)
    if (folder / "advice.json").exists():
        if (folder / "model" / "config.yaml").exists():
            write_run(folder / "model")
        if (folder / "data" / "data.json").exists():
            write_data_check(folder / "data")
        return write_advice(folder)
    if (folder / "data.json").exists():
        return write_data_check(folder)
    if (folder / "tune.json").exists():
        return write_tune(folder)
    if (folder / "lr.json").exists():
        return write_lr(folder)
    if (folder / "ordering.json").exists():
        return write_ordering(folder)
    if (folder / "overview.json").exists():
        for name in _parts(folder, read_json(folder / "overview.json")):
            write_pages(folder / name)
        return write_overview(folder)
    if (folder / "results.json").exists():
        runs = sorted((folder / "runs").glob("*/config.yaml"))
        with step("writing pages", len(runs), "pages") as line:
            for run in runs:
                write_run(run.parent)
                line.update(advance=1)
        return write_comparison(folder)
    return write_run(folder)
