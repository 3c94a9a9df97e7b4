"""The page of a search, and its table in a terminal: from ``tune.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lessonplan.errors import DataError
from lessonplan.report.formatting import MISSING, compact, count, duration, percent
from lessonplan.report.panels import panel
from lessonplan.report.reading import Json
from lessonplan.report.render import write_page
from lessonplan.report.terminal import console_of
from lessonplan.report.tune_plots import BEST, TRIALS, over_number
from lessonplan.report.tune_words import best_of, commands, metric_name, score_text, sentences, time_of, value_text
from lessonplan.stored import read_json

_SHOWN = 10


def write_tune(folder: Path) -> Path:
    """Write ``index.html`` of a search, finished or not.

    Returns:
        The path of the page.

    Raises:
        DataError: ``tune.json`` is missing, damaged, or of a layout this version does not know, or the page cannot
            be written.
    """
    folder = Path(folder)
    return write_page(folder, "tune.html", lambda: tune_context(folder, _read(folder)))


def _read(folder: Path) -> Json:
    record: Json = read_json(folder / "tune.json")
    if record.get("schema") != 1:
        raise DataError(f"{folder / 'tune.json'} has a layout that this version of lessonplan does not read")
    return record


def tune_context(folder: Path, record: Json) -> dict[str, Any]:
    """Everything the template ``tune.html`` shows."""
    first, *others = sentences(record, folder)
    legend = [("a trial", TRIALS), ("the best", BEST)]
    figures = []
    for place, name in enumerate(_names(record)):
        share = (record.get("importance") or {}).get(name)
        caption = (
            f"Share in what tells good trials from others: {percent(share, 0)}%." if share is not None else ""
        )
        figures += panel(name, caption, over_number(record, name, place), legend)
    watch = record["identity"]["watch"]
    titles = _titles(record)
    return {
        "title": folder.resolve().name,
        "answer": first,
        "sentences": others,
        "commands": commands(record, folder),
        "cards": _cards(record),
        "figures": figures,
        "table": {
            "title": "",
            "about": "",
            "caption": "",
            "sortable": True,
            "label": "Trials",
            "columns": [{"title": title, "note": "", "kind": "number"} for title in titles],
            "rows": rows(record),
        },
        "metric": metric_name(watch),
        "config": record["identity"],
        "environment": record["environment"],
    }


def _names(record: Json) -> list[str]:
    return [text.partition("=")[0] for text in record["identity"]["search"]]


def _titles(record: Json) -> list[str]:
    watch = record["identity"]["watch"]
    return ["Trial", *_names(record), metric_name(watch).capitalize(), "Cost", "Time"]


def rows(record: Json) -> list[list[str]]:
    """A row a trial, the best first: number, values, score, cost, time."""
    trials = list(enumerate(record["trials"]))
    trials.sort(
        key=lambda pair: (-pair[1]["score"] if pair[1].get("score") is not None else float("inf"), pair[0])
    )
    found = []
    for number, trial in trials:
        score = "failed" if trial.get("error") else score_text(trial.get("score"), record["identity"]["watch"])
        values = [value_text(trial["values"][name]) for name in _names(record)]
        cost = compact(trial["cost"]) if "cost" in trial else MISSING
        took = duration(trial["seconds"]) if "seconds" in trial else MISSING
        found.append([str(number + 1), *values, score, cost, took])
    return found


def _cards(record: Json) -> list[tuple[str, str]]:
    best, identity = best_of(record), record["identity"]
    cards = [("Trials", f"{count(len(record['trials']))} of {count(record['wanted'])}")]
    cards += [("Splits of each", count(identity["splits"])), ("Each run", str(identity["plan"].get("budget")))]
    cards += [("Sampler", {"tpe": "Optuna (TPE)"}.get(identity["sampler"], identity["sampler"]))]
    if best is not None:
        score = score_text(record["trials"][best]["score"], identity["watch"])
        cards.insert(0, (metric_name(identity["watch"]).capitalize(), score))
    return [*cards, ("Time of all runs", time_of(record))]


def print_tune(folder: Path, console: Console | None = None) -> None:
    """Print the best trials of a search, and what they say."""
    console = console or console_of()
    record = _read(folder)
    every = rows(record)
    more = f", the best {_SHOWN} of {len(every)}" if len(every) > _SHOWN else ""
    table = Table(title=f"trials{more}", title_justify="left")
    for title in _titles(record):
        table.add_column(title.lower() if title[0].isupper() else title, justify="right")
    for row in every[:_SHOWN]:
        table.add_row(*map(escape, row))
    console.print(table)
    for sentence in sentences(record, folder):
        console.print(escape(sentence))
    for what, command in commands(record, folder):
        console.print(escape(f"{what}: {command}"), soft_wrap=True)
