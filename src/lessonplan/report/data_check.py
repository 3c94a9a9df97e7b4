"""The page of a look at the data, and its summary in a terminal: from ``data.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from lessonplan.errors import DataError
from lessonplan.report.data_words import findings, leaks, many
from lessonplan.report.formatting import MISSING, count, fixed, percent
from lessonplan.report.pictures import SMOOTH, stored_picture
from lessonplan.report.reading import Json, read_json_if_there
from lessonplan.report.render import write_page
from lessonplan.report.terminal import console_of
from lessonplan.stored import read_json

FILE = "data.json"
_MARKS = {"error": "no", "warning": "!", "note": "-", "ok": "ok"}
_PAIRS_SHOWN = 24
_ROWS = 200
_WORDS = {
    "brightness": "brightness (grey level)",
    "contrast": "contrast (grey levels)",
    "size": "size (log2 of pixels a side)",
    "width": "shape (log2 of width over height)",
}


def write_data_check(folder: Path) -> Path:
    """Write ``index.html`` of a look at the data.

    Returns:
        The path of the page.

    Raises:
        DataError: ``data.json`` is missing, damaged, or of a layout this version does not know, or the page cannot
            be written.
    """
    folder = Path(folder)
    record = read_json(folder / FILE)
    if record.get("schema") != 1:
        raise DataError(f"{folder / FILE} has a layout that this version of lessonplan does not read")
    return write_page(folder, "data.html", lambda: data_context(record))


def read_findings(folder: Path) -> list[tuple[str, str]]:
    """What a look at the data in a folder found; nothing where there was none."""
    record = read_json_if_there(folder / FILE)
    return findings(record) if record.get("schema") == 1 else []


def data_context(record: Json) -> dict[str, Any]:
    """Everything the template ``data.html`` shows."""
    found = findings(record)
    errors, warned = (sum(level == wanted for level, _ in found) for wanted in ("error", "warning"))
    near, suspects = record["near"], record["suspects"]
    pairs = [
        (_shown(pair["first"]), _shown(pair["second"]), percent(pair["alike"], 0))
        for pair in near.get("pairs_listed", [])[:_PAIRS_SHOWN]
    ]
    doubted = [{**_shown(sample), "instead": sample["instead"]} for sample in suspects.get("samples_listed", [])]
    return {
        "title": record["data"],
        "kind": "leak" if errors else "look" if warned else "clear",
        "kind_words": "parts overlap" if errors else "look at these" if warned else "nothing stands out",
        "findings": [(level, _MARKS[level], sentence) for level, sentence in found],
        "cards": _cards(record),
        "classes": _classes(record),
        "pairs": pairs,
        "pairs_about": _pairs_about(record, len(pairs)),
        "pairs_table": _pairs_table(record, len(pairs)),
        "suspects": [sample for sample in doubted if sample["uri"]],
        "suspects_table": _suspects_table([sample for sample in doubted if not sample["uri"]]),
        "tiny": [_shown(sample) for sample in (record["tiny"] or {}).get("files", []) if sample.get("png")],
        "differences": _differences(record),
        "conflicts": record["copies"].get("conflicts_listed", []),
        "unreadable": record["unreadable"]["files"][:_ROWS],
        "unreadable_count": record["unreadable"]["count"],
    }


def _shown(sample: Json) -> Json:
    uri, width, height = stored_picture(sample.get("png"))
    sharp = max(width, height) < SMOOTH
    return {**sample, "uri": uri, "width": width, "height": height, "sharp": sharp}


def _cards(record: Json) -> list[tuple[str, str]]:
    cards = [(f"{name.capitalize()} samples", count(n)) for name, n in record["parts"].items()]
    cards.append(("Classes", count(len(record["classes"]))))
    if record["near"].get("leaks"):
        cards.append(("Held back and known", count(leaks(record))))
    if "pairs" in record["near"]:
        cards.append(("Pairs of near copies", count(record["near"]["pairs"])))
    if "count" in record["suspects"]:
        cards.append(("Labels to look at", count(record["suspects"]["count"])))
    return cards


def _table(title: str, about: str, columns: list[tuple[str, str]], rows: list[list[str]]) -> Json:
    return {
        "title": title,
        "about": about,
        "caption": "",
        "sortable": True,
        "label": title or about,
        "columns": [{"title": name, "note": "", "kind": kind} for name, kind in columns],
        "rows": rows,
    }


def _classes(record: Json) -> Json:
    parts = list(record["parts"])
    columns = [("Class", "word"), *((part.capitalize(), "number") for part in parts)]
    rows = [[row["class"], *(count(row[part]) for part in parts)] for row in record["classes"]]
    return _table("", "", columns, rows) | {"label": "Classes"}


def _pairs_about(record: Json, shown: int) -> str:
    near = record["near"]
    if not near.get("pairs"):
        return ""
    least = "" if near["complete"] else "At least "
    first = (
        f" The first {shown} are shown, those across parts before those within one."
        if near["pairs"] > shown
        else ""
    )
    return (
        f"{least}{many(near['pairs'], 'pair')}, {count(near['across'])} of them across parts.{first} The"
        " percentage is the correlation of the pictures' details; layout and light play no part in it."
    )


def _pairs_table(record: Json, shown: int) -> Json | None:
    rest = record["near"].get("pairs_listed", [])[shown:][:_ROWS]
    if not rest:
        return None
    sides = ("first", "second")
    rows = [
        [
            *(f"{pair[s]['where']} ({pair[s]['part']}, {pair[s]['class']})" for s in sides),
            percent(pair["alike"], 0),
        ]
        for pair in rest
    ]
    return _table("More pairs", "", [("One", "word"), ("Other", "wrap"), ("Alike %", "number")], rows)


def _suspects_table(rest: list[Json]) -> Json | None:
    if not rest:
        return None
    rows = [[sample["where"], sample["class"], sample["instead"]] for sample in rest[:_ROWS]]
    return _table("", "", [("Sample", "word"), ("Labelled", "word"), ("Looks like", "word")], rows) | {
        "label": "Suspected labels"
    }


def _differences(record: Json) -> Json | None:
    if not record["differences"]:
        return None
    rows = []
    for row in record["differences"]:
        held = f"[{fixed(row['interval'][0])}, {fixed(row['interval'][1])}]" if row["interval"] else MISSING
        means = [fixed(mean, 2) for mean in row["means"]]
        rows.append([row["part"], _WORDS[row["of"]], row["word"], fixed(row["d"]), held, *means])
    columns = [
        ("Part", "word"),
        ("Of", "word"),
        ("Difference", "word"),
        ("d", "number"),
        ("95% interval", "number"),
    ]
    return _table("", "", [*columns, ("Training", "number"), ("This part", "number")], rows) | {
        "label": "Differences between parts",
        "sortable": False,
    }


def print_data_check(record: Json, console: Console | None = None) -> None:
    """Print what was found, a sentence a line: "no" for an error, "!" for a warning, "-" for a note, "ok"."""
    console = console or console_of()
    for level, sentence in findings(record):
        console.print(f"{_MARKS[level]:3} {escape(sentence)}")
