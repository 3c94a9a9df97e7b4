"""The figures of an evaluation: curves over a setting, calibration, confidences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lessonplan.report.formatting import compact, listing, number
from lessonplan.report.palette import ACCENT, INK, MUTED, Style
from lessonplan.report.svg import MARGINS, drawing, new_figure, to_svg

Points = Sequence[Sequence[float]]
"""Pairs of x and y."""


def curve(
    series: Mapping[str, tuple[Points, Style]],
    *,
    name: str,
    xlabel: str,
    ylabel: str,
    percent: bool = True,
    doubling: bool = False,
    line_at: float | None = None,
) -> Markup | None:
    """Lines with a marker at each measured point.

    Args:
        series: points and look by label.
        name: the figure's id.
        xlabel: what is varied, with its unit.
        ylabel: what is drawn, with its unit.
        percent: values are shares, drawn in percent.
        doubling: x on a scale where doubling is a step.
        line_at: a value to which a dashed line is drawn.
    """
    factor = 100.0 if percent else 1.0
    filled = {
        label: (np.asarray(points, dtype=np.float64), look) for label, (points, look) in series.items() if points
    }
    if not filled:
        return None
    with drawing():
        figure, axes = new_figure(235)
        if line_at is not None:
            axes.axhline(line_at * factor, color=MUTED, linewidth=1.0, linestyle=(0, (3, 3)))
        for points, look in filled.values():
            axes.plot(
                points[:, 0],
                points[:, 1] * factor,
                color=look.color,
                linestyle=look.linestyle,
                marker=look.marker,
                markersize=4.5,
            )
        ticks = sorted({float(x) for points, _ in filled.values() for x in points[:, 0]})
        if doubling:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        words = listing(
            [f"{label} {compact(points[0, 1] * factor)} to {compact(points[-1, 1] * factor)}"
             for label, (points, _) in filled.items()]
        )  # fmt: skip
        return to_svg(figure, name, f"Curves of {ylabel} against {xlabel}, first to last point: {words}.")


def reliability_diagram(
    counts: Sequence[int], confidences: Sequence[float | None], accuracies: Sequence[float | None]
) -> Markup | None:
    """Accuracy by confidence as bars with the number of predictions above, points at their mean confidence.

    The dashed line is the diagonal of a calibrated network.

    Args:
        counts: predictions in each equal bin.
        confidences: their mean confidence.
        accuracies: their accuracy.
    """
    known = [
        (100 * c, 100 * a, n)
        for n, c, a in zip(counts, map(number, confidences), map(number, accuracies), strict=True)
        if n and c is not None and a is not None
    ]
    if not known:
        return None
    with drawing():
        figure, axes = new_figure(250, margins=MARGINS)
        width = 100.0 / len(counts)
        largest = max(n for _, _, n in known)
        for confidence, accuracy, n in known:
            left = width * min(int(confidence / width), len(counts) - 1)
            shade = 0.25 + 0.65 * (n / largest) ** 0.5
            axes.bar(left, accuracy, width=0.94 * width, align="edge", color=ACCENT, alpha=shade)
            axes.annotate(
                compact(n),
                (left + 0.47 * width, 101),
                ha="center",
                va="bottom",
                color=MUTED,
                fontsize=6.5,
            )
        points = np.asarray(known)
        axes.plot(points[:, 0], points[:, 1], color=INK, marker="o", markersize=3.2, linewidth=1.0)
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1.2, linestyle=(0, (3, 3)))
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 109)  # room for the numbers
        axes.set_yticks([0, 20, 40, 60, 80, 100])
        axes.set_xlabel("confidence (%)")
        axes.set_ylabel("accuracy (%)")
        words = listing([f"{a:.0f} at {c:.0f} ({n})" for c, a, n in known])
        return to_svg(
            figure, "reliability", f"Accuracy in percent by confidence in percent (predictions): {words}."
        )


def confidences(shares: Mapping[str, tuple[Sequence[float], Style]]) -> Markup | None:
    """How confident the network is on each set, as outlines of histograms.

    Args:
        shares: for each set the share of samples in equal bins of confidence, and its look.
    """
    if not shares:
        return None
    with drawing():
        figure, axes = new_figure(235)
        for values, look in shares.values():
            edges = np.linspace(0, 100, len(values) + 1)
            axes.stairs(100 * np.asarray(values), edges, color=look.color, linestyle=look.linestyle, linewidth=1.9)
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("largest probability (%)")
        axes.set_ylabel("samples (%)")
        words = listing(
            [f"{name} {100 * float(np.mean([i + 0.5 for i in range(len(v))] @ np.asarray(v)) / len(v)):.0f}"
             for name, (v, _) in shares.items()]
        )  # fmt: skip
        return to_svg(figure, "confidences", f"Histograms of confidence in percent; means: {words}.")
