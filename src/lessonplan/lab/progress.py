"""How far a comparison is: a line in a terminal, nothing anywhere else."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class RunCounter:
    """Counts finished runs; silent unless standard error is a terminal.

    Args:
        total: number of runs.
        done: how many were finished before.
    """

    def __init__(self, total: int, done: int) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("runs", total=total, completed=done)

    def __enter__(self) -> RunCounter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def finished(self, label: str, error: str | None) -> None:
        """A run is over."""
        self._progress.update(self._task, advance=1, description=f"{label}: failed" if error else label)
