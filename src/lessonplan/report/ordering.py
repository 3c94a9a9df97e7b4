"""The page of a search for orders: table 2.1, figures 2.1 and 2.2, and the two claims, beside the thesis'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lessonplan.errors import DataError
from lessonplan.report.formatting import count, duration, fixed, listing, p_value, shown
from lessonplan.report.order_explained import explained, read_explanation
from lessonplan.report.ordering_plots import by_epoch, distribution
from lessonplan.report.palette import style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Floats, Json
from lessonplan.report.render import write_page
from lessonplan.stored import read_json

FIGURE_EPOCHS = {"2.1": (1, 2, 5, 6), "2.2": (12, 13)}


def write_ordering(folder: Path) -> Path:
    """Write ``index.html`` of a search from its ``ordering.json`` and ``runs.csv``.

    Returns:
        The path of the page.

    Raises:
        DataError: a file is missing or damaged, or the page cannot be written.
    """
    folder = Path(folder)
    return write_page(folder, "ordering.html", lambda: ordering_context(folder))


def ordering_context(folder: Path) -> dict[str, Any]:
    """Everything the template ``ordering.html`` shows.

    Raises:
        DataError: a file is missing or damaged, or of a layout this version does not know.
    """
    summary = read_json(folder / "ordering.json")
    if summary.get("schema") != 1 or not isinstance(summary.get("epochs"), list):
        raise DataError(f"{folder / 'ordering.json'} has a layout that this version of lessonplan does not read")
    runs = read_runs(folder / "runs.csv")
    theirs = (summary.get("source") or {}).get("epochs") or []
    record = read_explanation(folder)
    return {
        "title": str(summary["title"]),
        "summary": summary,
        "answer": answer(summary),
        "rows": table_rows(summary["epochs"], theirs),
        "overview": _overview(summary["epochs"], theirs),
        "figures": _figures(summary["epochs"], runs),
        "claims": [claim_words(claim, summary) for claim in summary["claims"]],
        "explained": None if record is None else explained(record, summary["runs"]),
        "config": summary["config"],
        "environment": summary["environment"],
    }


def read_runs(path: Path) -> dict[int, tuple[Floats, Floats]]:
    """Loss and accuracy of every run ``(R,)`` by epoch.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 3, 4), ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as the runs of a search ({error})") from error
    return {
        int(epoch): (table[table[:, 0] == epoch, 1], table[table[:, 0] == epoch, 2]) for epoch in set(table[:, 0])
    }


def answer(summary: Json) -> str:
    """What was found, in two sentences."""
    first, last = summary["epochs"][0], summary["epochs"][-1]
    text = (
        f"After one epoch the same batches gave accuracies from {fixed(first['accuracy']['min'], 3)} to"
        f" {fixed(first['accuracy']['max'], 3)} by their order alone"
    )
    if last["epoch"] > first["epoch"]:
        text += (
            f"; after {last['epoch']} epochs the runs lie between {fixed(last['accuracy']['min'], 3)} and"
            f" {fixed(last['accuracy']['max'], 3)}"
        )
    diverged = sum(row["diverged"] for row in summary["epochs"])
    return text + "." + (f" {count(diverged)} runs diverged." if diverged else "")


def table_rows(ours: list[Json], theirs: list[Json]) -> list[dict[str, Any]]:
    """A row of table 2.1 an epoch, with the source's row where it has one."""
    source = {row["epoch"]: row for row in theirs}
    return [{**row, "source": source.get(row["epoch"])} for row in ours]


def claim_words(claim: Json, summary: Json) -> dict[str, str]:
    """A claim with its verdict and, in words, where it holds here and in the source's own table."""
    source = (summary.get("source") or {}).get("claims") or []
    theirs = next((other for other in source if other["name"] == claim["name"]), None)
    detail = f"Here: {_where(claim)}"
    if theirs is not None:
        detail += f" In the thesis' own table: {_where(theirs)}"
    if not claim["compared"]:
        verdict = "undecided"
    else:
        verdict = "held" if len(claim["holds"]) == len(claim["compared"]) else "did not hold"
        if 0 < len(claim["holds"]) < len(claim["compared"]):
            verdict = "held in part"
    return {"text": claim["text"], "verdict": verdict, "detail": detail}


def print_ordering(summary: Json, console: Console | None = None) -> None:
    """Print table 2.1 and the claims.

    Args:
        summary: what ``ordering.json`` holds.
        console: where to; standard output if not given.
    """
    console = console or Console(soft_wrap=True)
    table = Table(title=shown(str(summary["title"])), title_justify="left")
    for column in ("epoch", "runs", "min acc", "mean acc", "max acc", "min loss", "max loss", "normal p"):
        table.add_column(column, justify="right")
    for row in summary["epochs"]:
        accuracy, loss = row["accuracy"], row["loss"]
        table.add_row(
            str(row["epoch"]),
            count(row["runs"]),
            *(fixed(accuracy[key], 3) for key in ("min", "mean", "max")),
            *(fixed(loss[key], 3) for key in ("min", "max")),
            p_value(accuracy["normal_p"]),
        )
    console.print(table)
    for claim in summary["claims"]:
        words = claim_words(claim, summary)
        console.print(shown(f"{words['verdict'].upper()}: {words['text']} {words['detail']}"))
    where = "TEST data" if summary["evaluated_on"] == "test" else "validation data"
    console.print(
        shown(f"{count(summary['runs'])} runs, evaluated on {where}, {duration(summary['seconds'])} of searching")
    )


def _where(claim: Json) -> str:
    """In which epochs a claim holds.

    >>> _where({"compared": [1, 2, 3], "holds": [2, 3], "equal": []})
    'it holds for N = 2 and 3, of 3 compared.'
    """
    if not claim["compared"]:
        return "too few epochs to compare."
    if not claim["holds"]:
        text = f"it holds for none of {len(claim['compared'])} compared"
    else:
        text = (
            f"it holds for N = {listing([str(n) for n in claim['holds']])}, of {len(claim['compared'])} compared"
        )
    return text + (f" (equal for N = {listing([str(n) for n in claim['equal']])})." if claim["equal"] else ".")


def _overview(ours: list[Json], theirs: list[Json]) -> list[Panel]:
    legend = [("these runs", style(1)), ("thesis, table 2.1", style(2))] if theirs else []
    panels: list[Panel] = []
    for key, title in (("accuracy", "Accuracy by epoch"), ("loss", "Loss by epoch")):
        svg = by_epoch(ours, theirs, key, name=f"by-epoch-{key}", ylabel=key)
        panels += panel(title, "Lowest to highest of all runs, with the mean.", svg, legend)
    return panels


def _figures(epochs: list[Json], runs: dict[int, tuple[Floats, Floats]]) -> list[dict[str, Any]]:
    """Figures 2.1 and 2.2: histograms of the thesis' epochs, of the last two where the search was shorter."""
    rows = {row["epoch"]: row for row in epochs}
    early = [epoch for epoch in FIGURE_EPOCHS["2.1"] if epoch in rows]
    final = [epoch for epoch in FIGURE_EPOCHS["2.2"] if epoch in rows]
    last = "Figure 2.2: accuracy after 12 and 13 epochs"
    if not final:
        final = [epoch for epoch in sorted(rows)[-2:] if epoch not in early]
        last = "The last epochs: accuracy (figure 2.2 has epochs 12 and 13)"
    wanted = (
        ("Figure 2.1: accuracy after 1, 2, 5 and 6 epochs (its caption)", early, "accuracy"),
        ("Figure 2.1: loss after 1, 2, 5 and 6 epochs (the thesis' text)", early, "loss"),
        (last, final, "accuracy"),
    )
    figures = []
    for title, those, key in wanted:
        drawn = {n: _histogram(rows[n], runs[n], key) for n in those}
        equal = [n for n, panels in drawn.items() if not panels]
        panels = [one for panels in drawn.values() for one in panels]
        if drawn:
            figures.append({"title": title, "panels": panels, "equal": equal, "key": key})
    return figures


def _histogram(row: Json, values: tuple[Floats, Floats], key: str) -> list[Panel]:
    shape = row[key]
    caption = (
        f"{count(row['runs'])} runs; skewness {fixed(shape['skewness'])}, excess kurtosis"
        f" {fixed(shape['kurtosis'])}, normality p {p_value(shape['normal_p'])}"
    )
    number = row["epoch"]
    title = f"After {number} epoch{'s' if number > 1 else ''}"
    data = values[0] if key == "loss" else values[1]
    return panel(title, caption, distribution(data, name=f"{key}-{number}", xlabel=key))
