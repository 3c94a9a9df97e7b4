"""A piece of work that any process can do."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from lessonplan.errors import LessonplanError, MachineError, machine_out_of_memory


class Task(Protocol):
    """Work that is described by data alone and leaves its outcome in its folder."""

    folder: Path

    @property
    def label(self) -> str:
        """For progress and logs."""

    def do(self) -> None:
        """Do it."""


class Mishap(str):
    """What kept a task from being done and is the machine's fault, not its own: it may be tried again.

    Attributes:
        suspect: whether it may be the task's own fault after all, by the memory that it needs.
    """

    suspect: bool

    def __new__(cls, text: str, suspect: bool) -> Mishap:
        made = super().__new__(cls, text)
        made.suspect = suspect
        return made

    def __getnewargs__(self) -> tuple[str, bool]:  # type: ignore[override]
        return str(self), self.suspect


def reason(error: Exception) -> str:
    """What went wrong with a task, in a sentence; a ``Mishap`` where the machine is to blame."""
    text = str(error) if isinstance(error, LessonplanError) else f"{type(error).__name__}: {error}"
    if isinstance(error, MachineError):
        return Mishap(text, suspect=False)
    return Mishap(text, suspect=True) if machine_out_of_memory(error) else text


def go_on(mishap: Mishap, what: str) -> str:
    """What to do then: the end of a sentence about a ``what`` (a trial, a plan)."""
    again = "mend that and give the same command again, which goes on"
    return f"{again}; if this happens again, the {what} counts as failed" if mishap.suspect else again


def do_task(task: Task) -> None:
    """Do it: a function, for executors that send functions."""
    task.do()


def attempt(task: Task, do: Callable[[Task], None] = do_task) -> str | None:
    """Do it; None or what went wrong (``reason``). The trace is printed, but for a mistake of the user's."""
    try:
        do(task)
    except Exception as error:
        if not isinstance(error, LessonplanError):
            traceback.print_exc()
        return reason(error)
    return None
