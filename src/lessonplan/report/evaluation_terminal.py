"""An evaluation in a terminal: its numbers, the tables of attacks and defences, and what was found."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lessonplan.report.evaluation import ATTACKS, NAMES, cards, eps_words, findings
from lessonplan.report.formatting import count, percent
from lessonplan.report.reading import Json

_FILE_WIDTH = 140


def print_evaluation(results: Json, console: Console | None = None) -> None:
    """Print the numbers, the table of attacks and what was found.

    Args:
        results: what ``evaluation.json`` holds.
        console: where to; standard output if not given.
    """
    if console is None:
        console = Console(soft_wrap=True)
        console = console if console.is_terminal else Console(soft_wrap=True, width=_FILE_WIDTH)
    table = Table(title=escape(str(results["title"])), title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in cards(results):
        table.add_row(escape(name), value)
    console.print(table)
    attacked = results["parts"].get("attacks")
    if attacked is not None:
        console.print(_attack_table(attacked))
        for name, rows in (attacked.get("defences") or {}).get("tables", {}).items():
            console.print(_defence_table(NAMES[name], rows, attacked["defences"]))
    for sentence in findings(results):
        console.print(escape(sentence))


def _attack_table(found: Json) -> Table:
    title = f"attacks on the network, eps {eps_words(found['eps'])}, {count(found['samples'])} images"
    table = Table(title=title, title_justify="left")
    for column in ("attack", "loss", "accuracy %", "top-5 %", "no gradient %"):
        table.add_column(column, justify="left" if column in ("attack", "loss") else "right")
    for row in found["rows"]:
        table.add_row(
            ATTACKS[row["attack"]],
            row["loss"] or "",
            percent(row["accuracy"]),
            percent(row["top5"]),
            percent(row["no_gradient"]),
        )
    return table


def _defence_table(name: str, rows: list[Json], about: Json) -> Table:
    title = f"{name}, {about['samples']} images, gradients over {about['draws']} draws"
    table = Table(title=title, title_justify="left")
    for column in ("attack", "undefended %", "transfer %", "adaptive %", "robust %"):
        table.add_column(column, justify="left" if column == "attack" else "right")
    for row in rows:
        cells = [percent(row[key]) for key in ("undefended", "transfer", "adaptive", "robust")]
        table.add_row(ATTACKS[row["attack"]], *cells)
    return table
