"""The page of a learning-rate range test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lessonplan.errors import DataError
from lessonplan.report.formatting import fixed
from lessonplan.report.images import save_png
from lessonplan.report.lr_plots import RAW, SMOOTHED, SUGGESTED, TENTH, curve, picture
from lessonplan.report.lr_words import rate, sentences
from lessonplan.report.panels import panel
from lessonplan.report.reading import Json
from lessonplan.report.render import write_page
from lessonplan.stored import read_json

_CAPTION = (
    "The loss of each step's batch before its update, and its mean under a bell a fifth of a decade wide. Losses"
    " beyond the upper edge belong to the end, where training breaks down."
)


def write_lr(folder: Path) -> Path:
    """Write ``index.html`` and ``lr.png`` of a range test from its ``lr.json``.

    Returns:
        The path of the page.

    Raises:
        DataError: the file is missing or damaged, of a layout this version does not know, or the page
            cannot be written.
    """
    folder = Path(folder)
    found = read_json(folder / "lr.json")
    if found.get("schema") != 1 or not isinstance(found.get("lr"), list):
        raise DataError(f"{folder / 'lr.json'} has a layout that this version of lessonplan does not read")

    def context() -> dict[str, Any]:
        figure = picture(found)
        if figure is not None:
            save_png(figure, folder / "lr.png")
        return lr_context(folder, found)

    return write_page(folder, "lr.html", context)


def lr_context(folder: Path, found: Json) -> dict[str, Any]:
    """Everything the template ``lr.html`` shows."""
    legend = [("loss of a step", RAW), ("smoothed", SMOOTHED)]
    if found["suggested"] is not None:
        legend += [
            (f"suggested: {rate(found['suggested'])}", SUGGESTED),
            (f"a tenth of the lowest: {rate(found['tenth'])}", TENTH),
        ]
    first, *others = sentences(found)
    return {
        "title": folder.resolve().name,
        "answer": first,
        "sentences": others,
        "cards": _cards(found),
        "curve": panel("Loss over learning rate", _CAPTION, curve(found), legend),
        "picture": bool(found["lr"]),
        "config": found["config"],
        "environment": found["environment"],
    }


def _cards(found: Json) -> list[tuple[str, str]]:
    cards = [("Steps", f"{len(found['lr'])} of {found['steps']}")]
    if found["suggested"] is None:
        return cards
    return [
        ("Suggested", rate(found["suggested"])),
        ("A tenth of the lowest", rate(found["tenth"])),
        ("Lowest at", rate(found["lowest"])),
        ("Lowest smoothed loss", fixed(min(found["smoothed"]), 3)),
        *cards,
    ]
