"""Bars of how often samples were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from lessonplan.report.formatting import compact, fixed, listing, shorten
from lessonplan.report.palette import ACCENT, INK
from lessonplan.report.svg import MARGINS, compact_axis, drawing, new_figure, to_svg

MOST_BARS = 30  # classes that are drawn; of more, those that were chosen most


def count_bars(histogram: Sequence[tuple[int, int, int]], name: str) -> Markup | None:
    """Samples by how often they were chosen, a bar for each ``(from, to, samples)``."""
    if not histogram:
        return None
    with drawing():
        figure, axes = new_figure(205, narrow=True, margins=MARGINS)
        lows, widths = [low - 0.5 for low, _, _ in histogram], [high - low + 1 for low, high, _ in histogram]
        axes.bar(lows, [number for *_, number in histogram], widths, align="edge", color=ACCENT, alpha=0.85)
        axes.set_xlabel("times chosen")
        axes.set_ylabel("samples")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        compact_axis(axes, "y")
        axes.grid(False, axis="x")
        most = max(histogram, key=lambda bar: bar[2])
        often = f"{most[0]}" if most[0] == most[1] else f"{most[0]} to {most[1]}"
        words = f"Most of them, {compact(most[2])}, were chosen {often} times, none more than {histogram[-1][1]}."
        return to_svg(figure, name, f"Histogram of training samples by how often they were chosen. {words}")


def class_bars(by_class: Mapping[str, float], name: str) -> Markup | None:
    """How often a sample of each class was chosen; of many classes those that were chosen most."""
    shown = list(by_class.items())
    if not shown:
        return None
    if len(shown) > MOST_BARS:
        shown = sorted(shown, key=lambda pair: -pair[1])[:MOST_BARS]
    with drawing():
        figure, axes = new_figure(60 + 24 * len(shown), narrow=True)
        for row, (_, value) in enumerate(shown):
            axes.barh(row, value, height=0.6, color=ACCENT, alpha=0.85)
            axes.annotate(
                fixed(value, 1),
                (value, row),
                (4, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=9.5,
            )
        axes.set_yticks(range(len(shown)), [shorten(label, 14) for label, _ in shown])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, 1.18 * (max(value for _, value in shown) or 1.0))
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("times chosen, mean of the class")
        words = listing([f"{label} {fixed(value, 1)}" for label, value in shown])
        return to_svg(figure, name, f"How often a sample of each class was chosen: {words}.")
