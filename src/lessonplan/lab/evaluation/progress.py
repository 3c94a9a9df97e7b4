"""How far an evaluation is: a line in a terminal, nothing anywhere else."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Steps:
    """One bar after the other, each over samples; silent unless standard error is a terminal.

    Args:
        quiet: silent in any case, for evaluations inside of comparisons.
    """

    def __init__(self, quiet: bool = False) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        silent = quiet or not console.is_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=silent)
        self._task = self._progress.add_task("evaluation", total=None)

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, what: str, total: int) -> None:
        """A step over so many sample passes begins."""
        self._progress.reset(self._task, description=what, total=total)

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._progress.advance(self._task, count)
