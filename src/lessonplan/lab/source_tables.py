"""The tables of a source with our numbers beside them."""

from __future__ import annotations

from typing import Any

from lessonplan.lab.measures import mean_of
from lessonplan.lab.recipe import Table


def tables_of_part(tables: list[Table], part: str, results: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables that belong beside a part, with our numbers in them.

    Args:
        tables: of the recipe.
        part: name of the comparison.
        results: what its ``results.json`` holds.

    Returns:
        for each table its title, columns and rows, ready to be shown.
    """
    return [
        (_with_our_rows if table.measures else _with_our_column)(table, results)
        for table in tables
        if table.part in (None, part, part.partition(",")[0])
    ]


def _with_our_column(table: Table, results: dict[str, Any]) -> dict[str, Any]:
    """Our mean and interval at each row's end."""
    ours = {method["name"]: method for method in results["methods"]}
    rows = []
    for row, name in zip(table.rows, [*table.methods, *[None] * len(table.rows)], strict=False):
        method = ours.get(name) if name is not None else None
        rows.append([*row, _our_cell(method, table.measure)])
    model = results["config"]["model"]
    return {"title": table.title, "columns": [*table.columns, f"ours: {table.measure} %, {model}"], "rows": rows}


def _with_our_rows(table: Table, results: dict[str, Any]) -> dict[str, Any]:
    """Our means in a row below the source's row, and rows of the methods that the source lacks at the end."""
    ours = {method["name"]: method["runs"] for method in results["methods"]}
    rows: list[list[str | float | None]] = []
    for position, row in enumerate(table.rows):
        digits = 2 if table.percent else 3
        rows.append([f"{cell:.{digits}f}" if isinstance(cell, float) else cell for cell in row])
        name = table.methods[position] if table.methods else None
        if name is not None and name in ours and name not in table.methods[position + 1 :]:
            rows.append(_our_row(name, table, ours[name]))
    rows += [_our_row(name, table, runs) for name, runs in ours.items() if name not in table.methods]
    title = f"{table.title}; ours: means over seeds, {results['config']['model']}"
    return {"title": title, "columns": table.columns, "rows": rows}


def _our_row(name: str, table: Table, runs: list[dict[str, Any]]) -> list[str | float | None]:
    means = [mean_of(runs, measure) for measure in table.measures]
    return [f"ours: {name}", *(_cell(mean, table) for mean in means)]


def _cell(mean: float | None, table: Table) -> str | None:
    if mean is None:
        return None
    return f"{100 * mean:.2f}" if table.percent else f"{mean:.3f}"


def _our_cell(method: dict[str, Any] | None, measure: str) -> str | None:
    if method is None or method["mean"] is None:
        return None
    mean, interval = 100 * method["mean"], method["ci_t"]
    bounds = [100 * bound for bound in interval] if interval is not None else None
    if measure == "error":
        mean, bounds = 100 - mean, [100 - b for b in reversed(bounds)] if bounds is not None else None
    return f"{mean:.2f}" if bounds is None else f"{mean:.2f} ({bounds[0]:.2f} to {bounds[1]:.2f})"
