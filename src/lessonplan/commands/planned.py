"""What a command trains: its options, and where they say nothing, a plan file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessonplan.commands.common import given_settings
from lessonplan.settings import Settings

if TYPE_CHECKING:
    from lessonplan.plan import Plan


@dataclass(frozen=True)
class Planned:
    """What is trained, how and how long."""

    model: str
    plan: Plan
    settings: Settings
    budget: str


def planned(command: Any, file: Path | None) -> Planned:
    """A command's own options, each before the file's, and the file's before the defaults.

    An option that is given with its default's value counts as not given.

    Args:
        command: a dataclass with ``model``, ``mix``, ``select``, ``order``, ``settings`` and perhaps ``budget``.
        file: a plan file, or None.

    Raises:
        ConfigError: the file, a part or a setting cannot be used.
    """
    from lessonplan.plan import Plan

    defaults = {field.name: field.default for field in fields(command)}
    parts = {part: getattr(command, part) for part in ("select", "order", "mix")}
    budget = getattr(command, "budget", "")
    if file is None:
        return Planned(command.model, Plan.from_texts(**parts), command.settings, budget)
    from lessonplan.lab.plan_file import read_plan_file

    held = read_plan_file(file)
    given = {part: text for part, text in parts.items() if text != defaults[part]}
    plan = Plan.from_texts(**given)
    for part in parts:
        if part not in given:
            setattr(plan, part, getattr(held.method.plan, part))
    own = {**given_settings(command.settings), "threads": command.settings.threads}
    settings = Settings.make(**{**held.method.settings, **{k: v for k, v in own.items() if v is not None}})
    return Planned(
        command.model if command.model != defaults["model"] else held.model or command.model,
        plan,
        settings,
        budget if budget != defaults.get("budget") else held.budget or budget,
    )
