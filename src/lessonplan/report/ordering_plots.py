"""The figures of a search for orders: distributions of an epoch's runs, and how they move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from lessonplan.report.formatting import compact, fixed, listing
from lessonplan.report.palette import INK, style
from lessonplan.report.reading import Floats, Json
from lessonplan.report.svg import compact_axis, drawing, new_figure, to_svg

_MOST_BINS = 40
_NO_SPREAD = 1e-6  # of the values: what rounding makes of equal ones


def distribution(values: Floats, *, name: str, xlabel: str) -> Markup | None:
    """Histogram of an epoch's runs as a density, with the normal density of equal mean and deviation.

    None where all runs agree.

    Args:
        values: one per run; those that are not finite are left out.
        name: the figure's id.
        xlabel: what is drawn, with its unit.
    """
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) <= _NO_SPREAD * np.abs(values).max():
        return None
    mean, spread = float(values.mean()), float(values.std())
    bins = min(_MOST_BINS, max(5, int(np.sqrt(len(values)))))
    with drawing():
        figure, axes = new_figure(200)
        axes.hist(values, bins=bins, density=True, color=style(1).color, alpha=0.6, linewidth=0)
        x = np.linspace(values.min(), values.max(), 200)
        density = np.exp(-(((x - mean) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi))
        axes.plot(x, density, color=INK, linewidth=1.4)
        axes.set_xlabel(xlabel)
        axes.set_ylabel("density")
        compact_axis(axes, "y")
        axes.locator_params(axis="x", nbins=6)
        label = (
            f"Histogram of {xlabel} over {len(values)} runs: {fixed(float(values.min()), 4)} to"
            f" {fixed(float(values.max()), 4)}, mean {fixed(mean, 4)}."
        )
        return to_svg(figure, name, label)


def by_epoch(ours: Sequence[Json], theirs: Sequence[Json], key: str, *, name: str, ylabel: str) -> Markup | None:
    """Lowest to highest of each epoch as a band with its mean; the source's band in outline where there is one.

    Args:
        ours: rows with ``epoch`` and ``key`` (``min``, ``max``, perhaps ``mean``), at least one.
        theirs: the same of the source, perhaps none.
        key: ``"accuracy"`` or ``"loss"``.
        name: the figure's id.
        ylabel: what is drawn.
    """
    rows = [row for row in ours if row[key]["min"] is not None]
    if not rows:
        return None
    with drawing():
        figure, axes = new_figure(250)
        for index, (kind, solid) in enumerate(((rows, True), (list(theirs), False)), start=1):
            if not kind:
                continue
            look = style(index)
            epochs = [row["epoch"] for row in kind]
            low, high = ([row[key][end] for row in kind] for end in ("min", "max"))
            axes.fill_between(epochs, low, high, color=look.color, alpha=0.3 if solid else 0.12, linewidth=0)
            if len(kind) == 1:  # a band of one epoch has no width
                axes.vlines(epochs, low, high, color=look.color, linewidth=2)
            for edge in (low, high):
                axes.plot(epochs, edge, color=look.color, linewidth=0.9, linestyle=look.linestyle)
            if all(row[key].get("mean") is not None for row in kind):
                means = [row[key]["mean"] for row in kind]
                axes.plot(epochs, means, color=look.color, linestyle=look.linestyle, marker="o", markersize=3)
        if key == "loss":
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
            compact_axis(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        ends = listing(
            [f"epoch {row['epoch']} {compact(row[key]['min'])} to {compact(row[key]['max'])}" for row in rows]
        )
        return to_svg(figure, name, f"{ylabel} by epoch, lowest to highest: {ends}.")
