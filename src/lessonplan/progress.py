"""Progress lines in a terminal, nothing anywhere else: how far, how fast, how long, how well, how much memory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

_REMEMBERED_SECONDS = 1800.0  # runs may take minutes each, and two are needed for a rate

_ROOM_FOR_BAR, _ROOM_FOR_MEMORY = 130, 95  # columns of the terminal
_BAR, _MEMORY, _NUMBERS = 24, 9, 42  # columns of the bar, of the memory, and of what else is no words

_quiet = False
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


class Line:
    """A line that says how far something is; silent unless standard error is a terminal.

    A line that begins while another is shown stands below it.

    Args:
        what: what is done, in plain words.
        total: how many there are to do; None if that is not known yet.
        done: how many were done before.
        unit: what is counted ("runs"); None shows a percentage.
        quiet: silent in any case.
    """

    def __init__(
        self, what: str, total: float | None = None, done: float = 0, unit: str | None = None, quiet: bool = False
    ) -> None:
        self._what, self._total, self._done, self._unit = what, total, done, unit
        self._quiet = quiet
        self._progress: Progress | None = None

    def __enter__(self) -> Line:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Show it."""
        global _shown
        console = _console()
        if self._quiet or _quiet or not console.is_terminal:
            return
        if _shown is None:
            _shown = Progress(
                *_columns(console.width),
                console=console,
                transient=True,
                speed_estimate_period=_REMEMBERED_SECONDS,
                get_time=_clock,
                redirect_stdout=sys.stdout.isatty(),  # into a file goes what belongs there
            )
            _shown.start()
        self._progress = _shown
        self._task = self._progress.add_task(self._what, total=self._total, unit=self._unit, rate=None, best="")
        self._progress.update(self._task, completed=self._done, refresh=True)

    def stop(self) -> None:
        """Take it away; the terminal is as it was before."""
        global _shown
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
        if self._progress is None:
            return
        fields: dict[str, Any] = {
            name: value for name, value in (("rate", rate), ("best", best)) if value is not None
        }
        self._progress.update(self._task, completed=done, advance=advance, description=what, **fields)

    def begin(self, what: str, total: float | None) -> None:
        """Go back to the beginning, with something else."""
        if self._progress is not None:
            self._progress.reset(self._task, description=what, total=total)

    @property
    def shown(self) -> bool:
        """Whether anybody sees it."""
        return self._progress is not None


_clock = time.monotonic


def _console() -> Console:
    return Console(stderr=True)


def _columns(width: int) -> list[ProgressColumn]:
    """What fits into one row of a terminal: words are cut, and in narrow ones the bar and the memory go."""
    bar, memory = width >= _ROOM_FOR_BAR, width >= _ROOM_FOR_MEMORY
    room = max(20, width - _NUMBERS - (_BAR + 1 if bar else 0) - (_MEMORY if memory else 0))
    return [
        _Words(room),
        *([BarColumn(bar_width=_BAR)] if bar else []),
        _Count(),
        _Rate(),
        TimeRemainingColumn(compact=True),
        _Best(room),
        *([_Memory()] if memory else []),
    ]


class _Cut(ProgressColumn):
    """Words that share a room: the best result takes up to six tenths, what is done now the rest."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def best(self, task: Task) -> Text:
        text = Text.from_markup(task.fields["best"])
        text.truncate(6 * self.room // 10, overflow="ellipsis")
        return text


class _Best(_Cut):
    def render(self, task: Task) -> Text:
        return self.best(task)


class _Words(_Cut):
    def render(self, task: Task) -> Text:
        text = Text.from_markup(task.description)
        text.truncate(self.room - len(self.best(task)), overflow="ellipsis")
        return text


class _Count(ProgressColumn):
    """12/25 runs, or a percentage."""

    def render(self, task: Task) -> Text:
        unit, total = task.fields["unit"], task.total
        if unit is None:
            return Text("" if total is None else f"{task.percentage:3.0f}%")
        return Text(f"{task.completed:,.0f}/{'?' if total is None else f'{total:,.0f}'} {unit}")


class _Rate(ProgressColumn):
    """How many a second, or a minute where that is less than one a second."""

    def render(self, task: Task) -> Text:
        given, speed = task.fields["rate"], task.speed
        if given is not None or speed is None or task.fields["unit"] is None:
            return Text(given or "")
        return Text(per_time(speed, ""))


class _Memory(ProgressColumn):
    """Memory of this process and those that it started, and of an accelerator."""

    max_refresh = 1.0  # seconds between looks

    def render(self, task: Task) -> Text:
        return Text(memory_text())


def per_time(speed: float, unit: str) -> str:
    """A rate in words.

    >>> per_time(1234.5, "samples"), per_time(0.05, "runs"), per_time(2.25, "")
    ('1,234 samples/s', '3.0 runs/min', '2.2/s')
    """
    unit = f" {unit}" if unit else ""
    if speed < 1:
        return f"{60 * speed:.1f}{unit}/min"
    return f"{speed:,.0f}{unit}/s" if speed >= 10 else f"{speed:.1f}{unit}/s"


def memory_text() -> str:
    """Memory in use now, in words: of this process with those that it started, and of an accelerator."""
    used = 0
    with contextlib.suppress(psutil.Error):
        here = psutil.Process()
        for process in (here, *here.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # one that ends meanwhile
                used += process.memory_info().rss
    text = f"{used / 2**30:.1f} GiB"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        text += f" + {torch.cuda.memory_allocated() / 2**30:.1f} GiB on the device"
    return text
