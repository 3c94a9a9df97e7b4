"""What selection did, epoch by epoch (ASSIST figure 6), and what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lessonplan.report import run_plots
from lessonplan.report.axes import EPOCHS
from lessonplan.report.formatting import percent
from lessonplan.report.palette import style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Floats, Json, Run, known_at

MOST_POINTS = 80  # of a curve; of more epochs, neighbours are drawn as one point
Line = tuple[str, Floats, Floats]
Group = list[Json]
Value = Callable[[Group], float | None]


def selection_panels(run: Run) -> list[Panel]:
    """Acceptance, raw batches per update, updates, overflow, age, and passes; what is always 0 is left out."""
    groups = epoch_groups(run)
    panels = _figure(
        "Acceptance", "Share of the candidates that was kept.", "acceptance", "kept (%)",
        [_rate("kept", groups, "accepted", "candidates")], factor=100.0,
    )  # fmt: skip
    per_update = _rate("raw batches", groups, "raw_batches", "updates")
    if len(per_update[2]) and per_update[2].max() >= 1:  # fewer where an epoch's candidates are scored at once
        panels += _figure(
            "Raw batches per update", "Batches of candidates that it took to fill one.", "raw-batches",
            "raw batches", [per_update],
        )  # fmt: skip
    panels += _figure(
        "Updates", "Of an epoch; none where what was accepted filled no batch.", "selected-updates", "updates",
        [_mean("updates", groups, "updates")],
    )  # fmt: skip
    panels += _figure(
        "Overflow per update", "Accepted samples that were left when a batch was full.", "overflow-per-update",
        "samples", [_rate("overflow", groups, "overflow", "updates")],
    )  # fmt: skip
    panels += _figure(
        "Left over", "Accepted samples, at an epoch's end: carried to a later batch, or discarded.", "overflow",
        "samples", [_mean(key, groups, key) for key in ("carried", "discarded")],
    )  # fmt: skip
    panels += _figure(
        "Age", "Updates between a sample's scoring and its training.", "age", "updates",
        [_line("oldest", groups, _oldest), _line("mean", groups, _mean_age)],
    )  # fmt: skip
    passes = [_line(word, groups, _added(run, key)) for word, key in _PASSES]
    return panels + _figure("Samples through the network", "Of an epoch, for scores and for training.", "passes",
                            "samples", passes)  # fmt: skip


_PASSES = (("forward", "forwarded"), ("backward", "backpropagated"))


def epoch_groups(run: Run) -> list[Group]:
    """The epochs with a selection, in at most 80 groups of neighbours."""
    lines = [line for line in run.epochs if isinstance(line.get("select"), dict)]
    size = -(-len(lines) // MOST_POINTS)
    return [lines[start : start + size] for start in range(0, len(lines), size)] if lines else []


def selection_summary(run: Run) -> str:
    """The whole run in a few sentences, from the sums over its epochs; empty without a selection.

    >>> from pathlib import Path
    >>> counts = {"candidates": 100, "accepted": 25, "updates": 2}
    >>> selection_summary(Run(Path("r"), epochs=[{"select": counts}, {"select": counts}]))
    'Of 200 candidates 50 were kept (25.0%), in 4 updates.'
    """
    candidates, accepted, updates, scored, reused = (
        _sum(run.epochs, key) for key in ("candidates", "accepted", "updates", "scored", "reused")
    )
    if not candidates:
        return ""
    text = f"Of {candidates:,.0f} candidates {accepted:,.0f} were kept ({percent(accepted / candidates, 1)}%)"
    text += f", in {updates:,.0f} updates."
    if scored:
        text += f" {scored:,.0f} forward passes only gave scores"
        text += f"; {reused:,.0f} were the training pass too." if reused else "."
    elif reused:
        text += f" All {reused:,.0f} scoring passes were the training pass too."
    groups = epoch_groups(run)
    if len(groups[0]) > 1:
        text += f" Each point below stands for {len(groups[0])} epochs."
    return text


def _sum(lines: Sequence[Json], key: str) -> float:
    return sum(known_at(line, "select", key) or 0.0 for line in lines)


def _line(name: str, groups: list[Group], value: Value) -> Line:
    """One point a group, at its middle epoch, where the value is known."""
    points = []
    for group in groups:
        epochs = [known_at(line, *EPOCHS.keys) for line in group]
        known = [epoch for epoch in epochs if epoch is not None]
        y = value(group)
        if known and y is not None:
            points.append((sum(known) / len(known), y))
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    return name, table[:, 0], table[:, 1]


def _rate(name: str, groups: list[Group], top: str, bottom: str) -> Line:
    """A ratio of sums: epochs without the denominator count all the same."""
    return _line(name, groups, lambda group: _sum(group, top) / n if (n := _sum(group, bottom)) else None)


def _mean(name: str, groups: list[Group], key: str) -> Line:
    return _line(name, groups, lambda group: _sum(group, key) / len(group))


def _oldest(group: Group) -> float:
    return max(known_at(line, "select", "oldest") or 0.0 for line in group)


def _mean_age(group: Group) -> float | None:
    trained = _sum(group, "trained")
    products = ((known_at(line, "select", key) or 0.0 for key in ("mean_age", "trained")) for line in group)
    return sum(age * samples for age, samples in products) / trained if trained else None


def _added(run: Run, key: str) -> Value:
    """By how much a running total grew in an epoch, on average over a group."""
    totals = [known_at(line, key) for line in run.epochs]
    before = {id(line): total for line, total in zip(run.epochs, [0.0, *totals], strict=False)}

    def value(group: Group) -> float | None:
        start, end = before[id(group[0])], known_at(group[-1], key)
        return (end - start) / len(group) if start is not None and end is not None else None

    return value


def _figure(
    title: str, caption: str, name: str, ylabel: str, lines: Sequence[Line], *, factor: float = 1.0
) -> list[Panel]:
    if not any(values.any() for _, _, values in lines):
        return []
    series = [(line, style(1 + place)) for place, line in enumerate(lines)]
    svg = run_plots.curves(
        series, name=name, ylabel=ylabel, factor=factor, axis=EPOCHS, narrow=True, from_zero=True
    )
    return panel(title, caption, svg, [(line[0], look) for line, look in series if len(line[1])])
