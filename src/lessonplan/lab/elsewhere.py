"""What executors on other machines share: their packages, tasks that travel, and what became of them."""

from __future__ import annotations

import copy
import importlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError, first_line
from lessonplan.extras import refuse_other_versions
from lessonplan.lab.task import Mishap, Task, attempt, do_task
from lessonplan.lease import FolderHeld, wait_for_the_dead
from lessonplan.stores import mark_of


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
        ConfigError: it is not installed, or too old.
    """
    refuse_other_versions(extra)
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"{module} is not installed: pip install 'lessonplan[{extra}]'") from None


def absolute(job: Task) -> Task:
    """The same job for a process that works in another folder, of perhaps another machine."""
    moved = copy.copy(job)
    moved.folder = job.folder.resolve()
    mark = mark_of(moved.folder)
    return moved if mark is None else InCopy(moved, moved.folder, mark)


@dataclass
class InCopy:
    """A task in the local copy of a URL, which is sent by the machine that gives the task away.

    Args:
        task: to be done.
        folder: its own.
        mark: a file of the copy, which the machine that does it must see.
    """

    task: Task
    folder: Path
    mark: Path

    @property
    def label(self) -> str:
        """For progress and logs."""
        return self.task.label

    def do(self) -> None:
        """Do it.

        Raises:
            ConfigError: this machine does not see the copy.
        """
        if not self.mark.exists():
            raise ConfigError(
                f"{socket.gethostname()} does not see {self.mark.parent}, the copy of what the URL of --out holds:"
                " set LESSONPLAN_CACHE to a folder that all machines share"
            )
        self.task.do()


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
        what = first_line(error).rstrip(".")
        return Mishap(f"{what}. The same command goes on from the last checkpoint", suspect=True)
