"""From a template and what it shows to a page on the disk."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError

from lessonplan.errors import DataError, LessonplanError, first_line
from lessonplan.files import write_atomically
from lessonplan.report import formatting
from lessonplan.report.palette import HUES
from lessonplan.signals import no_interrupt_lost

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What no page may hold, or would turn the direction of what stands behind it."""


_ODD = (
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    IndexError,
    RecursionError,
    TemplateError,
)
"""What values of a wrong kind make of arithmetic, figures and templates."""


def _as_yaml(settings: Any) -> str:
    return str(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, default_flow_style=False, width=96))


@cache
def _environment() -> Environment:
    """Where templates come from; they are compiled once in a process."""
    environment = Environment(
        loader=PackageLoader("lessonplan.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    names = ("fixed", "percent", "points", "interval", "p_value", "count", "compact", "duration", "number")
    environment.filters.update({name: getattr(formatting, name) for name in names})
    environment.filters["as_yaml"] = _as_yaml
    environment.globals.update({"missing": formatting.MISSING, "hues": HUES})
    return environment


def render(template: str, context: dict[str, Any]) -> str:
    """Fill a template; its policy allows no network and no script but our own, named by its hash."""
    environment = _environment()
    source, _, _ = PackageLoader("lessonplan.report", "templates").get_source(environment, "table.js")
    script = f"\n{source}\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(**context, script=script, script_hash=f"sha256-{digest}")


def write_page(folder: Path, template: str, context: Callable[[], dict[str, Any]]) -> Path:
    """Fill a template and write it as ``index.html``, in one step, so that no reader sees half a page.

    Args:
        folder: what the page is about.
        template: file of the template.
        context: finds what it shows in files that anybody may have edited.

    Returns:
        The path of the page.

    Raises:
        DataError: what is stored cannot be shown, or the page cannot be written.
    """
    page = folder / "index.html"
    write_atomically(page, page_text(folder, template, context).encode("utf-8", errors="replace"))
    return page


def page_text(folder: Path, template: str, context: Callable[[], dict[str, Any]]) -> str:
    """A filled template, for ``write_page`` or a look at what is still changing.

    Raises:
        DataError: what is stored cannot be shown.
    """
    try:
        with no_interrupt_lost():
            return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", render(template, context()))
    except LessonplanError:
        raise
    except _ODD as error:
        raise DataError(
            f"what is stored in {folder} cannot be shown ({type(error).__name__}: {first_line(error)}): a file in"
            " it was changed, or written by another version; repeat the command that made it"
        ) from error
