"""What the benchmarks share: interleaved timing, one table, and the machine it was made on."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from rich.console import Console
from rich.table import Table

from lessonplan.train.usage import environment


def repetitions(description: str | None, default: int) -> int:
    """How often each side is measured, from the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=default, help=f"of each side (default: {default})")
    given: int = parser.parse_args().repetitions
    return given


def interleaved(
    sides: Mapping[str, Callable[[], object]],
    count: int,
    calls: int = 1,
    *,
    keep: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds a call takes: every side once to warm up, then all in turn, ``count`` times.

    Turns share whatever else the machine does, so that ratios within a turn are fairer than single times.

    Args:
        sides: what is measured, by name.
        count: number of turns.
        calls: calls of each side in a turn.
        keep: hold the results of a turn's calls, so that each has to find new memory.
        clock: ``time.process_time`` counts this process' work alone, for sides that differ by less than what
            others do to a wall clock.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(count + 1):
        for name, side in sides.items():
            kept = []
            began = clock()
            for _ in range(calls):
                result = side()
                if keep:
                    kept.append(result)
            seconds = (clock() - began) / calls
            if turn:
                times[name].append(seconds)
    return times


def ratio(times: Mapping[str, Sequence[float]], side: str, base: str) -> list[float]:
    """``side`` in units of ``base``, turn by turn."""
    return [a / b for a, b in zip(times[side], times[base], strict=True)]


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    """Median, lowest and highest.

    >>> spread([1.0, 2.0, 4.0])
    '2.00 (1.00 to 4.00)'
    """
    middle, low, high = (f"{scale * v:.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def show(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str] = (),
    numbers: str = "median (lowest to highest)",
) -> None:
    """Print the table, the machine, and what its numbers are."""
    console = Console(soft_wrap=True, width=140)
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    machine = environment()
    for note in (
        *notes,
        f"{machine['cpu']}, {machine['cores']} cores, {torch.get_num_threads()} threads,"
        f" torch {machine['torch']}, Python {machine['python']}; {numbers}",
    ):
        console.print(note, highlight=False)
