"""What executors on other machines share: their packages, tasks that travel, and what became of them."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

from lessonplan.errors import ConfigError, first_line
from lessonplan.lab.executor import T
from lessonplan.lab.task import Mishap, Task, attempt, do_task
from lessonplan.lease import FolderHeld, wait_for_the_dead


def at_least(where: str, value: float, least: float) -> None:
    """Refuse a number that is too small.

    Raises:
        ConfigError: it is.
    """
    if not value >= least or value == float("inf"):
        raise ConfigError(f"{where}={value:g}: give at least {least:g}")


def load_package(module: str, extra: str) -> Any:
    """A module of a package that is an extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"{module} is not installed: pip install 'lessonplan[{extra}]'") from None


def absolute(job: T) -> T:
    """The same job for a process that works in another folder."""
    moved = copy.copy(job)
    moved.folder = job.folder.resolve()
    return moved


def attempt_after_the_dead(task: Task) -> str | None:
    """As ``attempt``, for a task that may have been begun on a machine that died: it waits until that is known."""
    return attempt(task, _do_after_the_dead)


def _do_after_the_dead(task: Task) -> None:
    try:
        do_task(task)
    except FolderHeld as held:
        wait_for_the_dead(held.folder)
        do_task(task)


def outcome(get: Callable[[], str | None]) -> str | None:
    """What a task said on the other machine, or what became of that machine."""
    try:
        return get()
    except Exception as error:
        return Mishap(first_line(error), suspect=True)
