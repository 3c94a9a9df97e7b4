"""How a thing shows itself in a notebook; what draws it lies above everything else, and is found by its name."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def notebook_html(thing: Any) -> str:
    """For ``_repr_html_``: a table, a curve, a contact sheet, see ``lessonplan.notebook``."""
    return str(import_module("lessonplan.notebook").html_of(thing))
