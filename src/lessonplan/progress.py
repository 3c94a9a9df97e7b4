"""Progress lines in a terminal, nothing anywhere else: how far, how fast, how long, how well, how much memory."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # imported when a line is shown: processes that read pictures show none
    from rich.console import Console
    from rich.progress import Progress

Self = TypeVar("Self", bound="HasLine")
_REMEMBERED_SECONDS = 1800.0  # runs may take minutes each, and two are needed for a rate

_PATIENCE = 0.5  # seconds that a step may take before its line is worth looking at

_quiet = False
_said: set[str] | None = None  # what is not said again, while ``saying_once`` lasts
_aloud: int | None = None  # the process whose steps are shown: those that it forks say nothing
_shown: Progress | None = None  # one for all lines: terminals have one last line


@contextlib.contextmanager
def silence(quiet: bool = True) -> Iterator[None]:
    """No progress line inside, whatever standard error is."""
    global _quiet
    before, _quiet = _quiet, quiet or _quiet
    try:
        yield
    finally:
        _quiet = before


def is_silent() -> bool:
    """Whether ``silence`` holds."""
    return _quiet


def say(sentence: str) -> None:
    """A line on standard error that is worth knowing and no warning; nothing where ``silence`` holds."""
    if is_silent() or sentence in (_said or ()):
        return
    if _said is not None:
        _said.add(sentence)
    print(f"lessonplan: {sentence}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def saying_once() -> Iterator[None]:
    """Inside, the same sentence is said once: for runs that follow each other."""
    global _said
    before, _said = _said, set() if _said is None else _said
    try:
        yield
    finally:
        _said = before


@contextlib.contextmanager
def aloud(yes: bool = True) -> Iterator[None]:
    """Inside, the steps of what is done are shown too, which functions that Python calls take silently."""
    global _aloud
    before, _aloud = _aloud, os.getpid() if yes else None
    try:
        yield
    finally:
        _aloud = before


class Line:
    """A line that says how far something is; silent unless standard error is a terminal.

    A line that begins while another is shown stands below it.

    Args:
        what: what is done, in plain words.
        total: how many there are to do; None if that is not known yet.
        done: how many were done before.
        unit: what is counted ("runs"); None shows a percentage.
        quiet: silent in any case.
        patience: seconds that pass before it is shown; what is over by then is never shown.
    """

    def __init__(
        self,
        what: str,
        total: float | None = None,
        done: float = 0,
        unit: str | None = None,
        quiet: bool = False,
        patience: float = 0.0,
    ) -> None:
        self._what, self._total, self._done, self._unit = what, total, done, unit
        self._quiet, self._patience = quiet, patience
        self._best = ""
        self._due: float | None = None  # when it is going to be shown
        self._progress: Progress | None = None

    def __enter__(self) -> Line:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Show it, or when it is due."""
        if self._quiet or _quiet:
            return
        if self._patience:
            self._due = _clock() + self._patience
        else:
            self._show()

    def _show(self) -> None:
        global _shown
        self._due = None
        try:
            console = _console()
        except ImportError:  # lessonplan doctor says that rich is missing
            return
        if not console.is_terminal:
            return
        if _shown is None:
            from rich.progress import Progress

            from lessonplan.progress_row import columns_of

            _shown = Progress(
                *columns_of(console.width),
                console=console,
                transient=True,
                speed_estimate_period=_REMEMBERED_SECONDS,
                get_time=_clock,
                redirect_stdout=sys.stdout.isatty(),  # into a file goes what belongs there
            )
            _shown.start()
        self._progress = _shown
        self._task = self._progress.add_task(
            self._what, total=self._total, unit=self._unit, rate=None, best=self._best
        )
        self._progress.update(self._task, completed=self._done, refresh=True)

    def stop(self) -> None:
        """Take it away; the terminal is as it was before."""
        global _shown
        self._due = None
        if self._progress is None:
            return
        self._progress.remove_task(self._task)
        if not self._progress.tasks:
            self._progress.stop()
            _shown = None
        self._progress = None

    def update(
        self,
        done: float | None = None,
        *,
        advance: float | None = None,
        what: str | None = None,
        rate: str | None = None,
        best: str | None = None,
    ) -> None:
        """Say how far it is.

        Args:
            done: of the total.
            advance: how many more, instead.
            what: what is done now, printable.
            rate: how fast, where that is not the count's affair.
            best: the best so far, in words.
        """
        if self._due is not None:
            self._done = self._done + (advance or 0) if done is None else done
            self._what, self._best = what or self._what, best or self._best
            if _clock() >= self._due and self._done != self._total:
                self._show()
                done, advance = self._done, None
        if self._progress is None:
            return
        fields: dict[str, Any] = {
            name: value for name, value in (("rate", rate), ("best", best)) if value is not None
        }
        self._progress.update(self._task, completed=done, advance=advance, description=what, **fields)

    def begin(self, what: str, total: float | None) -> None:
        """Go back to the beginning, with something else."""
        self._what, self._total, self._done = what, total, 0
        if self._progress is not None:
            self._progress.reset(self._task, description=what, total=total)

    @property
    def shown(self) -> bool:
        """Whether anybody sees it."""
        return self._progress is not None


class HasLine:
    """What shows a line of its own while it is entered.

    Args:
        line: the line.
    """

    def __init__(self, line: Line) -> None:
        self.line = line

    def __enter__(self: Self) -> Self:
        self.line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.line.stop()


def step(what: str, total: float | None = None, unit: str | None = None, patience: float | None = None) -> Line:
    """A line over a step of a command that may take long, such as reading its pictures.

    It is shown where a command is at work (``aloud``).

    Args:
        what, total, unit: see ``Line``.
        patience: likewise; None is half a second, or none where nothing is counted.
    """
    chosen = patience if patience is not None else 0.0 if total is None else _PATIENCE
    return Line(what, total, unit=unit, quiet=_aloud != os.getpid(), patience=chosen)


_clock = time.monotonic


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)
