"""The tables of a source, with our numbers beside them where both were measured with the same, else apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lessonplan.lab.comparable import Ran
from lessonplan.lab.measures import mean_of
from lessonplan.lab.recipe import Table

Cells = list[str | float | None]


def tables_of_part(tables: Sequence[Table], part: str, ran: Ran, results: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables that belong to a part, and our numbers.

    A number of ours stands in a table of the source only where data set, number of images, network and epochs are
    those of the source's number (``Ran.agrees``). Otherwise the source's table stands alone, and behind all tables
    ours follow in tables of their own, labelled with what they were measured with.

    Args:
        tables: of the recipe.
        part: name of the comparison.
        ran: what ours were measured with.
        results: what its ``results.json`` holds.

    Returns:
        for each table its title, columns and rows, ready to be shown.
    """
    shown: list[dict[str, Any]] = []
    apart: dict[tuple[str, ...], Table] = {}
    for table in tables:
        if table.part not in (None, part, part.partition(",")[0]):
            continue
        columns = table.beside(ran)
        if columns is None:
            rows = [[_printed(cell, table) for cell in row] for row in table.rows]
            shown.append({"title": table.title, "columns": table.columns, "rows": rows})
            apart.setdefault(tuple(table.measures) or (table.measure,), table)
        elif table.measures:
            shown.append(_with_our_rows(table, ran, results))
        else:
            shown.append(_with_our_column(table, columns, ran, results))
    return shown + [_ours(table, ran, results) for table in apart.values()]


def _with_our_column(table: Table, columns: list[str], ran: Ran, results: dict[str, Any]) -> dict[str, Any]:
    """Our mean and interval at each row's end."""
    ours = {method["name"]: method for method in results["methods"]}
    rows: list[Cells] = []
    for position, row in enumerate(table.rows):
        name = table.methods[position] if position < len(table.methods) else None
        method = ours.get(name) if name is not None else None
        rows.append([*row, _our_cell(method, table.measure)])
    beside = f", to {' and '.join(columns)}" if len(table.of) > 1 else ""
    return {
        "title": table.title,
        "columns": [*table.columns, f"ours: {table.measure} %, {ran}{beside}"],
        "rows": rows,
    }


def _with_our_rows(table: Table, ran: Ran, results: dict[str, Any]) -> dict[str, Any]:
    """Our means in a row below the source's row, and rows of the methods that the source lacks at the end."""
    ours = {method["name"]: method["runs"] for method in results["methods"]}
    rows: list[Cells] = []
    for position, row in enumerate(table.rows):
        rows.append([_printed(cell, table) for cell in row])
        name = table.methods[position] if table.methods else None
        if name is not None and name in ours and name not in table.methods[position + 1 :]:
            rows.append(_our_row(f"ours: {name}", table, ours[name]))
    rows += [_our_row(f"ours: {name}", table, runs) for name, runs in ours.items() if name not in table.methods]
    return {"title": f"{table.title}; ours: means over seeds, {ran}", "columns": table.columns, "rows": rows}


def _ours(table: Table, ran: Ran, results: dict[str, Any]) -> dict[str, Any]:
    """Our numbers alone."""
    title = f"Ours, of another experiment than the tables above and not to be set beside them: {ran}"
    if table.measures:
        rows = [_our_row(method["name"], table, method["runs"]) for method in results["methods"]]
        return {"title": f"{title}; means over seeds", "columns": ["method", *table.columns[1:]], "rows": rows}
    rows = [[method["name"], _our_cell(method, table.measure)] for method in results["methods"]]
    return {"title": title, "columns": ["method", f"{table.measure} %"], "rows": rows}


def _our_row(label: str, table: Table, runs: list[dict[str, Any]]) -> Cells:
    means = [mean_of(runs, measure) for measure in table.measures]
    return [label, *(_printed(mean, table, share=True) for mean in means)]


def _printed(cell: str | float | None, table: Table, *, share: bool = False) -> str | float | None:
    """A number as its table has it; ours are shares where the source prints per cent."""
    if not isinstance(cell, float) or not table.measures:
        return cell
    if table.percent:
        return f"{100 * cell if share else cell:.2f}"
    return f"{cell:.3f}"


def _our_cell(method: dict[str, Any] | None, measure: str) -> str | None:
    if method is None or method["mean"] is None:
        return None
    mean, interval = 100 * method["mean"], method["ci_t"]
    bounds = [100 * bound for bound in interval] if interval is not None else None
    if measure == "error":
        mean, bounds = 100 - mean, [100 - b for b in reversed(bounds)] if bounds is not None else None
    return f"{mean:.2f}" if bounds is None else f"{mean:.2f} ({bounds[0]:.2f} to {bounds[1]:.2f})"
