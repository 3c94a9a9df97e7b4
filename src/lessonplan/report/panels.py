"""A figure with its title, caption and legend, as the templates take it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from lessonplan.report.palette import Style

Panel = dict[str, Any]


def panel(title: str, caption: str, svg: Markup | None, legend: Sequence[tuple[str, Style]] = ()) -> list[Panel]:
    """A figure for the page, or nothing when there was nothing to draw."""
    if svg is None:
        return []
    return [{"title": title, "caption": caption, "svg": svg, "legend": legend_entries(legend)}]


def legend_entries(entries: Sequence[tuple[str, Style]]) -> list[dict[str, Any]]:
    """Names and looks as the template's legend takes them."""
    return [{"name": name, "look": look} for name, look in entries]
