"""An evaluation in a terminal: its numbers, its tables, and what was found."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lessonplan.report.evaluation import cards, findings
from lessonplan.report.formatting import shown
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Rows, sections

_FILE_WIDTH = 140


def print_evaluation(results: Json, console: Console | None = None) -> None:
    """Print the numbers, the tables and what was found.

    Args:
        results: what ``evaluation.json`` holds.
        console: where to; standard output if not given.
    """
    if console is None:
        console = Console(soft_wrap=True)
        console = console if console.is_terminal else Console(soft_wrap=True, width=_FILE_WIDTH)
    found = sections(results)
    table = Table(title=shown(str(results["title"])), title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in cards(results, found):
        table.add_row(shown(name), value)
    console.print(table)
    for section in found.values():
        for rows in section.tables:
            console.print(_table(rows))
    for sentence in findings(found):
        console.print(shown(sentence))


def _table(found: Rows) -> Table:
    table = Table(
        title=shown(found.label),
        title_justify="left",
        caption=shown(found.caption) or None,
        caption_justify="left",
    )
    for column in found.columns:
        table.add_column(shown(column.title), justify="left" if column.kind == "text" else "right")
    for row in found.rows:
        table.add_row(*map(shown, row))
    return table
