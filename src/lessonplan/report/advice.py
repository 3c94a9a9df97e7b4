"""The page of a tournament, and its table in a terminal: from ``advice.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lessonplan.errors import DataError
from lessonplan.report.advice_words import PLAIN, commands, sentences
from lessonplan.report.data_check import read_findings
from lessonplan.report.formatting import MISSING, count, duration, interval, percent, points
from lessonplan.report.palette import styles
from lessonplan.report.panels import Panel, panel
from lessonplan.report.plots import strip
from lessonplan.report.reading import Json
from lessonplan.report.render import write_page
from lessonplan.report.terminal import console_of
from lessonplan.stored import read_json

_CAPTION = (
    "Accuracy on the samples that a round holds back, minus that of plain training in the same round: a dot a"
    " round, the mean as a diamond, and the interval that holds for all plans and looks together (an arrow: it"
    " goes on). Above zero is better; an interval that crosses zero decides nothing."
)
_COLUMNS = ("Plan", "Standing", "Gain, points", "Interval", "Rounds", "Validation %")
_KINDS = {"better": "better", "undecided": "best guess", "plain": "plain training"}


def write_advice(folder: Path) -> Path:
    """Write ``index.html`` of a tournament, finished or not.

    Returns:
        The path of the page.

    Raises:
        DataError: ``advice.json`` is missing, damaged, or of a layout this version does not know, or the page
            cannot be written.
    """
    folder = Path(folder)
    record = read_json(folder / "advice.json")
    if record.get("schema") != 1:
        raise DataError(f"{folder / 'advice.json'} has a layout that this version of lessonplan does not read")
    return write_page(folder, "advice.html", lambda: advice_context(folder, record))


def advice_context(folder: Path, record: Json) -> dict[str, Any]:
    """Everything the template ``advice.html`` shows."""
    first, *others = sentences(record, folder)
    verdict = record.get("verdict") or {}
    last = commands(record, folder) if verdict else []
    return {
        "title": folder.resolve().name,
        "answer": first,
        "kind": verdict.get("kind"),
        "kind_words": _KINDS.get(verdict.get("kind", "")),
        "sentences": [sentence for sentence in others if sentence not in last],
        "commands": [tuple(line.split(": ", 1)) for line in last],
        "model": record["final"].get("folder"),
        "cards": _cards(record),
        "gains": _figure(record),
        "table": {
            "title": "",
            "about": "",
            "caption": "",
            "sortable": False,
            "label": "Plans",
            "columns": [
                {"title": title, "note": "", "kind": "word" if at < 2 else "number"}
                for at, title in enumerate(_COLUMNS)
            ],
            "rows": rows(record),
        },
        "looks": _looks(record),
        "data": [
            (level, sentence)
            for level, sentence in read_findings(folder / "data")
            if level in ("error", "warning")
        ],
        "data_page": (folder / "data" / "index.html").is_file(),
        "config": record["identity"],
        "environment": record["environment"],
    }


def rows(record: Json) -> list[list[str]]:
    """A row a plan, the best first: name, standing, gain, interval, rounds, validation accuracy."""
    scores = (record.get("verdict") or {}).get("scores") or {}
    names = sorted(
        record["plans"], key=lambda n: -record["standing"].get(n, {}).get("mean", -2.0 if n != PLAIN else 0.0)
    )
    found = []
    for name in names:
        about = record["standing"].get(name)
        score = percent(scores.get(name))
        rounds = len(((record.get("verdict") or {}).get("by_round") or {}).get(name) or {})
        if about is None:
            found.append([name, _standing(record, name), MISSING, MISSING, count(rounds), score])
            continue
        held = interval(about["interval"], signed=True)
        found.append([name, _standing(record, name), points(about["mean"]), held, count(about["rounds"]), score])
    return found


def _standing(record: Json, name: str) -> str:
    if record["plans"][name].get("left_out"):
        return "left out"
    if name == PLAIN:
        return "reference"
    decided = (record["standing"].get(name, {}).get("decided") or {}).get("verdict")
    if decided:
        return str(decided)
    return "undecided" if name in record["running"] else "set aside"


def _cards(record: Json) -> list[tuple[str, str]]:
    sizes, verdict = record["sizes"], record.get("verdict") or {}
    cards = [("Labelled samples", count(sizes.get("labelled"))), ("Classes", count(len(sizes.get("classes", []))))]
    cards.append(("Plans", count(len(record["plans"]))))
    if verdict:
        runs = sum(map(len, verdict["by_round"].values()))
        cards += [("Rounds", count(verdict["rounds"])), ("Runs", count(runs))]
    cards.append(("Time", duration(record["seconds"])))
    test = record["final"].get("test")
    return [*cards, ("Test accuracy %", percent(test["model"]))] if test else cards


def _figure(record: Json) -> list[Panel]:
    by_round = (record.get("verdict") or {}).get("by_round") or {}
    base = by_round.get(PLAIN) or {}
    names = [row[0] for row in rows(record) if row[0] in record["standing"]]
    drawn, words = [], []
    for name in names:
        about = record["standing"][name]
        dots = [100 * (score - base[number]) for number, score in by_round.get(name, {}).items() if number in base]
        drawn.append((name, dots, 100 * about["mean"], [100 * bound for bound in about["interval"]]))
        words.append(f"{name} {points(about['mean'])}")
    label = f"Gain on plain training in points, by plan. Means: {', '.join(words)}."
    svg = strip(
        drawn, styles([PLAIN, *names], PLAIN), name="gains", xlabel="gain (points)", label=label, zero=True
    )
    return panel("Gain on plain training", _CAPTION, svg)


def _looks(record: Json) -> list[str]:
    """Who left at which look."""
    found = []
    for look in record["looks"]:
        after = f"After {look['rounds']} round{'s' if look['rounds'] != 1 else ''}"
        if look["rung"] is None:
            found.append(f"{after}: the time was over; what was there was looked at, and nobody left.")
        elif look["left"]:
            found.append(f"{after} left: {', '.join(f'{name} ({why})' for name, why in look['left'].items())}.")
        else:
            found.append(f"{after} nobody left.")
    return found


def print_advice(folder: Path, console: Console | None = None) -> None:
    """Print the table of a tournament, and its verdict."""
    console = console or console_of()
    record = read_json(folder / "advice.json")
    table = Table(title="against plain training, validation accuracy", title_justify="left")
    for at, column in enumerate(_COLUMNS):
        table.add_column(column.lower(), justify="left" if at < 2 else "right")
    for row in rows(record):
        table.add_row(*map(escape, row))
    console.print(table)
    for sentence in sentences(record, folder):
        console.print(escape(sentence))
