"""The page of an evaluation: what a network's predictions are worth, and what they survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lessonplan.errors import DataError
from lessonplan.report.formatting import duration
from lessonplan.report.pictures import read_pictures
from lessonplan.report.reading import Json, read_run
from lessonplan.report.render import write_page
from lessonplan.report.sections.section import Section, sections
from lessonplan.report.watched import run_note
from lessonplan.stored import read_json


def write_evaluation(folder: Path) -> Path:
    """Write ``index.html`` of an evaluation from its ``evaluation.json`` and ``pictures/``.

    Returns:
        The path of the page.

    Raises:
        DataError: a file is missing or damaged, or the page cannot be written.
    """
    folder = Path(folder)
    return write_page(folder, "evaluation.html", lambda: evaluation_context(folder))


def evaluation_context(folder: Path) -> dict[str, Any]:
    """Everything the template ``evaluation.html`` shows; parts that were not done are left out.

    Raises:
        DataError: the file is missing or damaged, or of a layout this version does not know.
    """
    results = read_json(folder / "evaluation.json")
    if results.get("schema") != 1 or not isinstance(results.get("parts"), dict):
        raise DataError(f"{folder / 'evaluation.json'} has a layout that this version of lessonplan does not read")
    shown = sections(results)
    return {
        "title": str(results["title"]),
        "results": results,
        "of_run": (folder.parent / "result.json").is_file(),
        "watched": run_note(read_run(folder.parent)),
        "waiting": [name.replace("_", " ") for name in results["planned"] if name not in results["parts"]],
        "cards": cards(results, shown),
        "findings": findings(shown),
        "sections": {name.replace("_", "-"): section for name, section in shown.items()},
        "pictures": {name.replace("_", "-"): read_pictures(folder / "pictures" / name) for name in shown},
        "config": {"subject": results["subject"], "options": results["options"]},
        "environment": results["environment"],
    }


def findings(shown: dict[str, Section]) -> list[str]:
    """What was found, in sentences."""
    return [sentence for section in shown.values() for sentence in section.findings]


def cards(results: Json, shown: dict[str, Section]) -> list[tuple[str, str]]:
    """The headline numbers that are known, and the time, as names and text."""
    time = duration(sum(part["seconds"] for part in results["parts"].values()))
    return [*(card for section in shown.values() for card in section.cards), ("Time", time)]
