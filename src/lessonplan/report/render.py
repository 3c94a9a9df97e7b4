"""From a template and what it shows to a page on the disk."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from lessonplan.files import write_atomically
from lessonplan.report import formatting
from lessonplan.report.palette import HUES


def _as_yaml(settings: Any) -> str:
    return str(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, default_flow_style=False, width=96))


def _environment() -> Environment:
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


def write_page(folder: Path, template: str, context: dict[str, Any]) -> Path:
    """Fill a template and write it as ``index.html``, in one step, so that no reader sees half a page.

    Returns:
        The path of the page.

    Raises:
        DataError: the page cannot be written.
    """
    page = folder / "index.html"
    write_atomically(page, render(template, context).encode("utf-8", errors="replace"))
    return page
