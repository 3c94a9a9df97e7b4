"""A piece of work that any process can do."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Task(Protocol):
    """Work that is described by data alone and leaves its outcome in its folder."""

    folder: Path

    @property
    def label(self) -> str:
        """For progress and logs."""

    def do(self) -> None:
        """Do it."""


def do_task(task: Task) -> None:
    """Do it: a function, for executors that send functions."""
    task.do()
