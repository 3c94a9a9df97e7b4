"""Writing the pages: one self-contained HTML file for a comparison, one for each run."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from lessonplan.errors import DataError
from lessonplan.report.comparison import comparison_context
from lessonplan.report.evaluation import write_evaluation
from lessonplan.report.gains import gain_panels
from lessonplan.report.lr import write_lr
from lessonplan.report.ordering import write_ordering
from lessonplan.report.reading import read_json, read_results, read_run
from lessonplan.report.render import write_page
from lessonplan.report.run import run_context


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
    return write_page(folder, "comparison.html", comparison_context(folder, read_results(folder)))


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
    return write_page(folder, "run.html", run_context(run))


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
    entries = []
    results_of = {}
    for name in about["parts"]:
        results = read_results(folder / name)
        findings = [method["finding"] for method in results["methods"]]
        entries.append({"name": name, "link": f"{quote(name)}/index.html", "findings": findings})
        results_of[name] = results
    content = {
        "title": about["title"],
        "entries": entries,
        "claims": about.get("claims", []),
        "gains": gain_panels(about.get("gains", []), results_of),
    }
    return write_page(folder, "overview.html", content)


def write_pages(folder: Path) -> Path:
    """Write the pages of any folder of ours again: of several comparisons, of one, of a run,
    of a search, of an evaluation, or of a range test.

    Returns:
        The page to begin with.

    Raises:
        DataError: the folder holds nothing of ours.
    """
    folder = Path(folder)
    if (folder / "evaluation.json").exists():
        return write_evaluation(folder)
    if (folder / "lr.json").exists():
        return write_lr(folder)
    if (folder / "ordering.json").exists():
        return write_ordering(folder)
    if (folder / "overview.json").exists():
        for name in read_json(folder / "overview.json")["parts"]:
            write_pages(folder / name)
        return write_overview(folder)
    if (folder / "results.json").exists():
        for run in sorted((folder / "runs").glob("*/config.yaml")):
            write_run(run.parent)
        return write_comparison(folder)
    return write_run(folder)
