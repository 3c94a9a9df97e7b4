"""The table of a comparison in a terminal, as plain text anywhere else."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lessonplan.report.formatting import compact, duration, interval, p_value, percent, points


def print_table(results: dict[str, Any], console: Console | None = None) -> None:
    """Print the methods with means, intervals and differences, then what was found, a sentence a method.

    Args:
        results: what ``results.json`` holds.
        console: where to; standard output if not given.
    """
    console = console or Console(soft_wrap=True)
    reference = results["reference"]
    table = Table(title=escape(results["title"]), title_justify="left")
    columns = ("method", "n", "test %", "95% interval", f"minus {reference}", "interval", "Holm p", "verdict")
    level = f"{100 * results['level']:g}% interval"
    for column in (*columns[:3], level, *columns[4:], "passes", "time"):
        table.add_column(escape(column), justify="left" if column in ("method", "verdict") else "right")
    for method in results["methods"]:
        difference = method["difference"] or {}
        table.add_row(
            escape(method["name"]),
            str(method["n"]),
            percent(method["mean"]),
            interval(method["ci_t"]),
            points(difference.get("mean")),
            interval(difference.get("ci_t"), signed=True),
            p_value(difference.get("p_holm")),
            difference.get("verdict", "reference" if method["name"] == reference else ""),
            compact(method["samples"]),
            duration(method["seconds"]),
        )
    console.print(table)
    for method in results["methods"]:
        console.print(escape(method["finding"]))
    for failure in results["failures"]:
        console.print(
            escape(f"FAILED {failure['method']}, seed {failure['seed']}: {failure['error']} ({failure['folder']})")
        )
