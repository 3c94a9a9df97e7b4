"""Writing the pages: one self-contained HTML file for a comparison, one for each run."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from lessonplan.errors import DataError
from lessonplan.report import formatting
from lessonplan.report.comparison import comparison_context
from lessonplan.report.palette import HUES
from lessonplan.report.reading import read_json, read_results, read_run
from lessonplan.report.run import run_context


def _as_yaml(settings: Any) -> str:
    return str(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, default_flow_style=False, width=96))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lessonplan.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    names = ("fixed", "percent", "points", "interval", "p_value", "count", "compact", "duration", "number")
    environment.filters.update({name: getattr(formatting, name) for name in names})
    environment.filters["as_yaml"] = _as_yaml
    environment.globals.update({"missing": formatting.MISSING, "hues": HUES})
    return environment


def _render(template: str, context: dict[str, Any]) -> str:
    """Fill a template; its policy allows no network and no script but our own, named by its hash."""
    environment = _environment()
    source, _, _ = PackageLoader("lessonplan.report", "templates").get_source(environment, "table.js")
    script = f"\n{source}\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(**context, script=script, script_hash=f"sha256-{digest}")


def _write(path: Path, text: str) -> Path:
    """Replace a file in one step, so that a reader never sees half a page."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8", errors="replace")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    return path


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
    return _write(
        folder / "index.html", _render("comparison.html", comparison_context(folder, read_results(folder)))
    )


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
    return _write(folder / "index.html", _render("run.html", run_context(run)))


def write_overview(folder: Path) -> Path:
    """Write ``index.html`` over several comparisons from ``overview.json``.

    Args:
        folder: ``overview.json`` in it holds ``title``, ``parts``, the names of its comparisons' folders, and
            perhaps ``claims``, sentences on all of them.

    Returns:
        The path of the page.

    Raises:
        DataError: a file is missing or damaged, or the page cannot be written.
    """
    folder = Path(folder)
    about = read_json(folder / "overview.json")
    entries = []
    for name in about["parts"]:
        results = read_results(folder / name)
        findings = [method["finding"] for method in results["methods"]]
        entries.append({"name": name, "link": f"{quote(name)}/index.html", "findings": findings})
    content = {"title": about["title"], "entries": entries, "claims": about.get("claims", [])}
    return _write(folder / "index.html", _render("overview.html", content))


def write_pages(folder: Path) -> Path:
    """Write the pages of any folder of ours again: of several comparisons, of one, of a run,
    of a search, or of an evaluation.

    Returns:
        The page to begin with.

    Raises:
        DataError: the folder holds nothing of ours.
    """
    folder = Path(folder)
    if (folder / "evaluation.json").exists():
        from lessonplan.report.evaluation import write_evaluation  # which needs this module

        return write_evaluation(folder)
    if (folder / "ordering.json").exists():
        from lessonplan.report.ordering import write_ordering  # which needs this module

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
