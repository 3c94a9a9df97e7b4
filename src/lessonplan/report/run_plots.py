"""The figures of one run: its curves, and what it gets right and wrong in each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_rgba
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from lessonplan.report.axes import COST, EPOCHS, Axis
from lessonplan.report.formatting import compact, listing, number, shorten
from lessonplan.report.palette import ACCENT, INK, MUTED, Style
from lessonplan.report.reading import Floats
from lessonplan.report.svg import MARGINS, compact_axis, curve_figure, drawing, new_figure, text_width, to_svg

MOST_BARS, WEAKEST = 30, 15  # classes up to which all are drawn as bars; of more the weakest are
MOST_NUMBERS = 12  # classes up to which a confusion matrix has its counts written in
_CELL_HUE = "#3b86c8"  # readable under dark and under light ink when it is translucent

Curve = tuple[str, Floats, Floats]


def curves(
    series: Sequence[tuple[Curve, Style]],
    *,
    name: str,
    ylabel: str,
    factor: float = 1.0,
    steps: bool = False,
    axis: Axis = COST,
    narrow: bool = False,
    line_at: float | None = None,
    from_zero: bool = False,
) -> Markup | None:
    """Lines against cost (or another axis), each ``((label, x, value), style)``; labels go to the legend.

    Args:
        series: lines in drawing order; empty ones are left out.
        name: the figure's id.
        ylabel: what is drawn, with its unit.
        factor: multiplies the values (100 for percent).
        steps: hold a value until the next one (settings that change at once).
        axis: what they are drawn against.
        narrow: for three columns.
        line_at: a value to which a thin line is drawn, such as 1 for ratios.
        from_zero: show 0 too, and never a logarithmic scale (counts).
    """
    filled = [(curve, look) for curve, look in series if len(curve[1])]
    if not filled:
        return None
    with drawing(), curve_figure(205 if narrow else 235, narrow=narrow) as (figure, axes):
        if line_at is not None:
            axes.axhline(line_at, color=MUTED, linewidth=1.0)
        for (_, cost, value), look in filled:
            axes.plot(
                cost,
                value * factor,
                color=look.color,
                linestyle=look.linestyle,
                drawstyle="steps-post" if steps else "default",
                marker=look.marker if len(cost) == 1 else None,
            )
        values = np.concatenate([value for (_, _, value), _ in filled])
        smallest, largest = float(values.min()), float(values.max())
        if smallest > 0 and largest > 200 * smallest and not from_zero:
            axes.set_yscale("log")
            axes.yaxis.set_minor_locator(NullLocator())  # to make ticks takes a third of drawing
        elif steps and np.array_equal(values, values.round()):
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if from_zero:
            axes.set_ylim(min(0.0, 1.06 * smallest * factor), max(1.06 * largest * factor, 1e-9))
        if axis is EPOCHS:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        compact_axis(axes, "y")
        axes.set_xlabel(axis.label)
        axes.set_ylabel(ylabel)
        compact_axis(axes)
        ends = listing([f"{curve[0]} {compact(curve[2][-1] * factor)}" for curve, _ in filled])
        return to_svg(figure, name, f"Curves of {ylabel} against {axis.label}. At the end: {ends}.")


def class_accuracy(
    values: Sequence[float | None], names: Sequence[str], measure: str = "test accuracy"
) -> Markup | None:
    """Accuracy of each class as a bar; of more than 30 classes the 15 weakest, weakest first."""
    known = [
        (name, 100 * value) for name, value in zip(names, map(number, values), strict=True) if value is not None
    ]
    if not known:
        return None
    if len(known) > MOST_BARS:
        known = sorted(known, key=lambda pair: pair[1])[:WEAKEST]
    with drawing():
        short = [shorten(name, 18) for name, _ in known]
        height = 60 + (31 if len(known) <= MOST_NUMBERS else 22) * len(known)
        figure, axes = new_figure(height, margins=(14 + text_width(short, 10), *MARGINS[1:]))
        rows = range(len(known))
        axes.barh(rows, [value for _, value in known], height=0.6, color=ACCENT, alpha=0.85)
        for row, (_, value) in enumerate(known):
            axes.annotate(
                f"{value:.1f}",
                (value, row),
                (4, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=9.5,
            )
        axes.set_yticks(rows, short)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(known) - 0.4, -0.6)
        axes.set_xlim(0, 112)
        axes.set_xticks([0, 25, 50, 75, 100])
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{measure} (%)")
        words = listing([f"{name} {value:.1f}" for name, value in known])
        return to_svg(figure, "classes", f"{measure.capitalize()} per class in percent: {words}.")


def confusion_matrix(
    counts: NDArray[np.float64],
    names: Sequence[str],
    name: str = "confusion",
    totals: NDArray[np.float64] | None = None,
) -> Markup | None:
    """True class by row, predicted class by column, shaded by the share of the row.

    Args:
        counts: ``(C, C)``, C >= 1, entry (t, p) the number of images of class t taken for class p.
        names: C class names.
        name: the figure's id.
        totals: ``(C,)``, images of each true class where the matrix is a part of a larger one.
    """
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or len(names) != len(counts):
        return None
    classes = len(counts)
    all_of_class = counts.sum(axis=1) if totals is None else totals
    share = counts / np.maximum(all_of_class[:, None], 1)
    shades = np.zeros((classes, classes, 4))
    shades[..., :3] = to_rgba(_CELL_HUE)[:3]
    shades[..., 3] = 0.72 * np.sqrt(share)  # the root lets rare mistakes be seen
    with drawing():
        short = [shorten(name, 18) for name in names] if classes <= MOST_BARS else []
        size, longest = (10 if classes <= MOST_NUMBERS else 7.5), max(map(len, short), default=0)
        room = text_width(short, size) if short else 24.0
        below = room if longest > 2 else size
        figure, axes = new_figure(370, margins=(32 + room, *MARGINS[1:2], 32 + below, MARGINS[3]))
        axes.imshow(shades, interpolation="none", aspect="equal")
        if classes <= MOST_NUMBERS:
            for (row, column), value in np.ndenumerate(counts):
                if value:
                    axes.text(column, row, f"{value:g}", ha="center", va="center", color=INK, fontsize=9)
        axes.grid(False)
        if short:
            axes.set_xticks(range(classes), short, rotation=90 if longest > 2 else 0, fontsize=size)
            axes.set_yticks(range(classes), short, fontsize=size)
        axes.set_xlabel("predicted class", color=MUTED)
        axes.set_ylabel("true class", color=MUTED)
        for spine in axes.spines.values():
            spine.set_visible(True)
        right = 100 * float(np.trace(counts)) / max(float(all_of_class.sum()), 1.0)
        label = f"Confusion matrix of {classes} classes, true class by row; {right:.1f} percent on the diagonal."
        return to_svg(figure, name, label)
