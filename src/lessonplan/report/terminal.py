"""The table of a comparison in a terminal, as plain text anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from lessonplan.report.at_features import of_features
from lessonplan.report.batches import different_batches
from lessonplan.report.comparison_evaluation import evaluation_table
from lessonplan.report.formatting import MISSING, compact, duration, interval, p_value, percent, points, shown
from lessonplan.report.train_test import MEASURES, backward_differs, cells, measured
from lessonplan.report.watched import comparison_note

_FILE_WIDTH = 140


def print_table(results: dict[str, Any], console: Console | None = None) -> None:
    """Print the methods with means, intervals and differences, then what was found, a sentence a method.

    Args:
        results: what ``results.json`` holds.
        console: where to; standard output if not given.
    """
    console = console or console_of()
    reference = results["reference"]
    table = Table(title=shown(results["title"]), title_justify="left")
    columns = ("method", "n", "test %", "95% interval", f"minus {reference}", "interval", "Holm p", "verdict")
    level = f"{100 * results['level']:g}% interval"
    backward = ("backward",) if backward_differs(results["methods"]) else ()
    for column in (*columns[:3], level, *columns[4:], "passes", *backward, "time"):
        table.add_column(shown(column), justify="left" if column in ("method", "verdict") else "right")
    mixed = of_features(results["methods"])
    for method in results["methods"]:
        difference = method["difference"] or {}
        table.add_row(
            shown(method["name"]) + (", of features" if method["name"] in mixed else ""),
            str(method["n"]),
            percent(method["mean"]),
            interval(method["ci_t"]),
            points(difference.get("mean")),
            interval(difference.get("ci_t"), signed=True),
            p_value(difference.get("p_holm")),
            difference.get("verdict", "reference" if method["name"] == reference else ""),
            compact(method["samples"]),
            *([compact(method["backpropagated"])] if backward else []),
            duration(method["seconds"]),
        )
    console.print(table)
    if measured(results["methods"]):
        console.print(_train_test_table(results["methods"]))
    for note in (comparison_note(results), different_batches(results["methods"])):
        if note:
            console.print(shown(note))
    evaluated = evaluation_table(results["methods"])
    if evaluated is not None:
        console.print(evaluated)
    for method in results["methods"]:
        console.print(shown(method["finding"]))
    for failure in results["failures"]:
        console.print(
            shown(f"FAILED {failure['method']}, seed {failure['seed']}: {failure['error']} ({failure['folder']})")
        )


def _train_test_table(methods: Sequence[dict[str, Any]]) -> Table:
    """Training and test data side by side, a measure a column."""
    table = Table(title="train / test (ratio)", title_justify="left")
    table.add_column("method")
    for title, *_ in MEASURES:
        table.add_column(title.replace("90% quantile of the loss", "q=.9 loss"), justify="right")
    for method in methods:
        row = [f"{cell.train} / {cell.test} ({cell.ratio})" for cell in cells(method)]
        table.add_row(shown(method["name"]), *row)
    return table


def console_of() -> Console:
    """Standard output, wide enough for a table where it is no terminal."""
    console = Console(soft_wrap=True)
    return console if console.is_terminal else Console(soft_wrap=True, width=_FILE_WIDTH)


def print_source(source: dict[str, Any], console: Console | None = None) -> None:
    """Print a source's tables with our numbers beside them, and what became of its claims.

    Args:
        source: what ``source.json`` holds.
        console: where to; standard output if not given.
    """
    console = console or console_of()
    for content in source["tables"]:
        table = Table(title=shown(content["title"]), title_justify="left")
        for position, column in enumerate(content["columns"]):
            table.add_column(shown(column), justify="right" if position else "left")
        for row in content["rows"]:
            table.add_row(*(MISSING if cell is None else shown(str(cell)) for cell in row))
        console.print(table)
    for claim in source["claims"]:
        console.print(shown(f"{claim['verdict'].upper()}: {claim['text']} [{claim['detail']}]"))
