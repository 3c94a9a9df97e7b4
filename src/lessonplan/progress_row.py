"""What of a progress line fits into one row of a terminal: words, bar, count, rate, time left, best, memory."""

from __future__ import annotations

from rich.progress import BarColumn, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from lessonplan.progress_words import memory_text, per_time

_ROOM_FOR_BAR, _ROOM_FOR_MEMORY = 130, 95  # columns of the terminal
_BAR, _MEMORY, _NUMBERS = 24, 9, 42  # columns of the bar, of the memory, and of what else is no words


def columns_of(width: int) -> list[ProgressColumn]:
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
