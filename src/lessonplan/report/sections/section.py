"""A section of the page of an evaluation: sentences, numbers, tables, figures and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from lessonplan.evaluation import PARTS
from lessonplan.report.formatting import MISSING, number, percent
from lessonplan.report.panels import Panel
from lessonplan.report.reading import Json

Kind = Literal["number", "text", "strong"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its head.
        kind: numbers stand right, text left, the number that counts is strong.
        note: a second line of the head.
    """

    title: str
    kind: Kind = "number"
    note: str = ""


@dataclass(frozen=True)
class Rows:
    """A table: the first cell of a row is its head.

    Attributes:
        label: what it holds, for who cannot see it, and above it in a terminal.
        columns, rows: heads, and cells as text.
        title: a heading of its own.
        about: what one must know to read it, in sentences above it.
        caption: the same in a few words, in its frame.
        sortable: whether a press on a heading sorts it; its numbers are then plain ones.
    """

    label: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    about: str = ""
    caption: str = ""
    sortable: bool = False


@dataclass(frozen=True)
class Section:
    """What is shown of a part.

    Attributes:
        title: its heading.
        about: what was done, a sentence or two.
        tables, note, panels: tables, how to read them, figures.
        cards: headline numbers by name, above the sections.
        findings: what was found, in sentences.
    """

    title: str
    about: str = ""
    tables: Sequence[Rows] = ()
    note: str = ""
    panels: Sequence[Panel] = ()
    cards: Sequence[tuple[str, str]] = ()
    findings: Sequence[str] = ()


def sections(results: Json) -> dict[str, Section]:
    """The sections of what ``evaluation.json`` holds, by the names of their parts, in the order of the table."""
    done = results["parts"]
    return {part.name: _section(part.name, done[part.name], results) for part in PARTS if part.name in done}


def _section(name: str, found: Json, results: Json) -> Section:
    shown: Section = import_module(f"lessonplan.report.sections.{name}").section(found, results)
    return shown


def percent_cards(shares: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Headline shares that are known."""
    return [(name, f"{percent(value)} %") for name, value in shares.items() if number(value) is not None]


def known(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Headline numbers, written already, that are known."""
    return [(name, text) for name, text in texts.items() if text != MISSING]
