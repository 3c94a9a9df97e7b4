"""Runs that looked at test data while they trained (``evaluate_test=curve``), and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lessonplan.report.formatting import listing
from lessonplan.report.reading import Json, Run

SENTENCE = (
    "Test data were watched while training (evaluate_test=curve), to reproduce a source that did so. They decided"
    " nothing in a run, but whoever chooses by these curves has no test data left."
)


def watched(config: Json) -> bool:
    """Whether a run's configuration says so."""
    settings = config.get("settings")
    return isinstance(settings, dict) and settings.get("evaluate_test") == "curve"


def run_note(run: Run) -> str:
    """The sentence for a run's pages, or an empty one."""
    return SENTENCE if watched(run.config) or run.has("test") else ""


def comparison_note(results: Json, names: Iterable[str] = ()) -> str:
    """The same for a comparison, with the methods it is true of where it is not of all.

    Args:
        results: what ``results.json`` holds.
        names: methods that have such curves, whatever it says.

    >>> comparison_note({"methods": [{"name": "a"}, {"name": "b"}], "watched_test": ["b"]})[-6:]
    'Of: b.'
    """
    stored: Any = results.get("watched_test")
    told = {*map(str, stored if isinstance(stored, list) else ()), *names}
    every = [method["name"] for method in results["methods"]]
    found = [name for name in every if name in told]
    if not found:
        return ""
    return SENTENCE if len(found) == len(every) else f"{SENTENCE} Of: {listing(found)}."
