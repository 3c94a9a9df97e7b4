"""The numbers of evaluations in a comparison's page and in the terminal: a row a number, a column a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from lessonplan.measures import is_share, measure_words
from lessonplan.report.formatting import MINUS, MISSING, fixed, interval, percent, points, shown
from lessonplan.report.reading import Json


def evaluation_rows(methods: Sequence[Json]) -> list[dict[str, Any]]:
    """A row for each number that some method has, with a cell for each method.

    Args:
        methods: of ``results.json``.

    Returns:
        rows with ``name`` and ``cells``; a cell has ``value``, ``interval``, ``difference`` (to the reference) and
        ``verdict``, all text. Nothing where no run was evaluated.
    """
    names = dict.fromkeys(name for method in methods for name in method.get("evaluation") or {})
    return [
        {
            "name": measure_words(name),
            "cells": [_cell((method.get("evaluation") or {}).get(name), is_share(name)) for method in methods],
        }
        for name in names
        if any(_known(method, name) for method in methods)
    ]


def evaluation_table(methods: Sequence[Json]) -> Table | None:
    """The same for a terminal; None where no run was evaluated."""
    rows = evaluation_rows(methods)
    if not rows:
        return None
    table = Table(title="evaluation, mean over seeds (difference to the reference)", title_justify="left")
    table.add_column("measure")
    for method in methods:
        table.add_column(shown(method["name"]), justify="right")
    for row in rows:
        cells = [f"{c['value']} ({c['difference']})" if c["difference"] else c["value"] for c in row["cells"]]
        table.add_row(row["name"], *cells)
    return table


def _known(method: Json, name: str) -> bool:
    """Whether a number says something: a share of images without a gradient is shown where there are some."""
    found = (method.get("evaluation") or {}).get(name)
    return found is not None and not (name.endswith("_no_gradient") and found["mean"] == 0)


def _cell(found: Json | None, share: bool) -> dict[str, str]:
    if found is None:
        return {"value": MISSING, "interval": "", "difference": "", "verdict": ""}
    difference = found.get("difference")
    bounds = found.get("ci_t")
    text = ""
    if difference is not None:
        text = points(difference["mean"]) if share else f"{difference['mean']:+.3f}".replace("-", MINUS)
    return {
        "value": percent(found["mean"]) if share else fixed(found["mean"], 3),
        "interval": _interval(bounds, share),
        "difference": text,
        "verdict": difference["verdict"] if difference is not None else "",
    }


def _interval(bounds: Sequence[float] | None, share: bool) -> str:
    if bounds is None:
        return ""
    return interval(bounds) if share else f"[{fixed(bounds[0], 3)}, {fixed(bounds[1], 3)}]"
