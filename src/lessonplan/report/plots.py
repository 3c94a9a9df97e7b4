"""The figures of a comparison: what the methods reached, how they got there and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from lessonplan.report.axes import COST, Axis
from lessonplan.report.bands import Band
from lessonplan.report.formatting import compact, listing, number, percent, points, shorten
from lessonplan.report.palette import INK, MUTED, PAPER, Style
from lessonplan.report.reading import Floats, Json
from lessonplan.report.svg import compact_axis, curve_figure, drawing, new_figure, to_svg

FEW_ANSWERS = 10  # below which the accuracy of a bin of confidence says nothing


def _row_height(rows: int) -> float:
    return 62 + 30 * rows


def _method_axis(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def learning_curves(
    bands: Mapping[str, Band],
    looks: Mapping[str, Style],
    *,
    name: str,
    ylabel: str,
    as_percent: bool = False,
    axis: Axis = COST,
    narrow: bool = False,
    line_at: float | None = None,
) -> Markup | None:
    """Mean curves against cost (or another axis) with their t bands.

    The vertical range follows the means; a band that is wider than half that range on either side (two or
    three seeds that disagree) runs out of the picture instead of flattening every curve.

    Args:
        bands: per method, in drawing order.
        looks: per method.
        name: the figure's id.
        ylabel: what is drawn, with its unit.
        as_percent: values are shares, drawn in percent.
        axis: what they are drawn against.
        narrow: for three columns.
        line_at: a value to which a thin line is drawn, such as 1 for ratios.
    """
    if not bands:
        return None
    factor = 100.0 if as_percent else 1.0
    with drawing(), curve_figure(215 if narrow else 250, narrow=narrow) as (figure, axes):
        if line_at is not None:
            axes.axhline(line_at, color=MUTED, linewidth=1.0)
        for method, band in bands.items():
            look = looks[method]
            alone = len(band.x) == 1
            axes.plot(
                band.x,
                band.mean * factor,
                color=look.color,
                linestyle=look.linestyle,
                marker=look.marker if alone else None,
            )
            if band.low is not None and band.high is not None:
                axes.fill_between(
                    band.x,
                    band.low * factor,
                    band.high * factor,
                    color=look.color,
                    alpha=0.14,
                    linewidth=0,
                )
        means = np.concatenate([band.mean for band in bands.values()]) * factor
        edges = [edge * factor for band in bands.values() for edge in (band.low, band.high) if edge is not None]
        low, high = float(means.min()), float(means.max())
        room = 0.5 * ((high - low) or abs(high) or 1.0)
        bottom = max(min([low, *(float(edge.min()) for edge in edges)]), low - room)
        top = min(max([high, *(float(edge.max()) for edge in edges)]), high + room)
        margin = 0.04 * ((top - bottom) or 1.0)
        axes.set_ylim(bottom - margin, min(top + margin, 101.0) if as_percent else top + margin)
        axes.set_xlabel(axis.label)
        axes.set_ylabel(ylabel)
        compact_axis(axes, "y")
        compact_axis(axes)
        ends = listing([f"{method} {compact(band.mean[-1] * factor)}" for method, band in bands.items()])
        return to_svg(figure, name, f"Curves of {ylabel} against {axis.label}. At the end: {ends}.")


def _interval(axes: Axes, row: int, bounds: Sequence[float], color: str, limits: tuple[float, float]) -> None:
    """A horizontal interval with end bars; an end outside the limits gets an arrow head instead."""
    low, high = max(bounds[0], limits[0]), min(bounds[1], limits[1])
    axes.plot([low, high], [row, row], color=color, linewidth=2.2, zorder=3)
    for end, bound, arrow in ((low, bounds[0], "<"), (high, bounds[1], ">")):
        axes.plot([end], [row], color=color, marker="|" if end == bound else arrow, markersize=8, zorder=3)


def readable_limits(
    values: Sequence[float], bounds: Sequence[Sequence[float]], extra: float | None
) -> tuple[float, float]:
    """A range that holds all points, and intervals as far as they do not dwarf the points."""
    low, high = min(values), max(values)
    span = (high - low) or max(0.02 * abs(high), 0.5)
    left = max(min([low, *(bound[0] for bound in bounds)]), low - span)
    right = min(max([high, *(bound[1] for bound in bounds)]), high + span)
    if extra is not None:
        left, right = min(left, extra), max(right, extra)
    return left, right


def strip(
    rows: Sequence[tuple[str, Sequence[float], float | None, Sequence[float] | None]],
    looks: Mapping[str, Style],
    *,
    name: str,
    xlabel: str,
    label: str,
    zero: bool,
) -> Markup | None:
    """Per row a name, a dot per seed, the mean as a diamond, the interval as a line; values already in percent."""
    values = [value for _, dots, _, _ in rows for value in dots]
    if not values:
        return None
    with drawing():
        figure, axes = new_figure(_row_height(len(rows)))
        limits = readable_limits(
            values, [bounds for *_, bounds in rows if bounds is not None], 0.0 if zero else None
        )
        margin = 0.05 * ((limits[1] - limits[0]) or 1.0)
        for row, (method, dots, mean, bounds) in enumerate(rows):
            color = looks[method].color
            if bounds is not None:
                _interval(axes, row, bounds, color, limits)
            axes.scatter(dots, [row - 0.24] * len(dots), s=22, color=color, alpha=0.55, linewidths=0, zorder=4)
            if mean is not None:
                axes.scatter([mean], [row], s=52, marker="D", color=color, edgecolors=PAPER, zorder=5)
        if zero:
            axes.axvline(0, color=MUTED, linewidth=1.2, zorder=2)
        axes.set_xlim(limits[0] - margin, limits[1] + margin)
        axes.set_xlabel(xlabel)
        _method_axis(axes, [method for method, *_ in rows])
        return to_svg(figure, name, label)


def _hundred(bounds: Sequence[float] | None) -> list[float] | None:
    if not bounds or any(number(bound) is None for bound in bounds):
        return None
    return [100 * float(bound) for bound in bounds]


def _scores(method: Json) -> dict[int, float]:
    """Test accuracy per seed in percent, of the runs that have one."""
    known = {run.get("seed"): number(run.get("test_accuracy")) for run in method.get("runs") or []}
    return {seed: 100 * value for seed, value in known.items() if value is not None}


def final_scores(methods: Sequence[Json], looks: Mapping[str, Style]) -> Markup | None:
    """Test accuracy of every seed, with the mean and its t interval per method."""
    rows, words = [], []
    for method in methods:
        mean = number(method.get("mean"))
        scores = list(_scores(method).values())
        rows.append((method["name"], scores, None if mean is None else 100 * mean, _hundred(method.get("ci_t"))))
        words.append(f"{method['name']} {percent(mean)}")
    label = f"Test accuracy per seed in percent. Means: {listing(words)}."
    return strip(rows, looks, name="scores", xlabel="test accuracy (%)", label=label, zero=False)


def paired_differences(methods: Sequence[Json], reference: str, looks: Mapping[str, Style]) -> Markup | None:
    """Test accuracy minus the reference's at the same seed, with the mean difference and its t interval."""
    base = next((_scores(method) for method in methods if method["name"] == reference), {})
    rows, words = [], []
    for method in methods:
        if method["name"] == reference:
            continue
        scores = _scores(method)
        dots = [scores[seed] - base[seed] for seed in scores if seed in base]
        difference = method.get("difference") or {}
        mean = number(difference.get("mean"))
        rows.append((method["name"], dots, None if mean is None else 100 * mean, _hundred(difference.get("ci_t"))))
        words.append(f"{method['name']} {points(mean)}")
    label = f"Difference of test accuracy to {reference} at equal seeds, in points. Means: {listing(words)}."
    xlabel = f"difference to {shorten(reference)} (points)"
    return strip(rows, looks, name="differences", xlabel=xlabel, label=label, zero=True)


def bars(
    methods: Sequence[Json], key: str, looks: Mapping[str, Style], *, name: str, xlabel: str
) -> Markup | None:
    """One bar per method for a stored mean such as ``cost`` or ``seconds``, its value written beside it."""
    known = [(method["name"], value) for method in methods if (value := number(method.get(key))) is not None]
    if not known:
        return None
    with drawing():
        figure, axes = new_figure(_row_height(len(known)))
        for row, (method, value) in enumerate(known):
            axes.barh(row, value, height=0.56, color=looks[method].color, alpha=0.85)
            axes.annotate(
                compact(value),
                (value, row),
                (5, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=10,
            )
        axes.set_xlim(0, 1.16 * (max(value for _, value in known) or 1.0))
        axes.set_xlabel(xlabel)
        compact_axis(axes)
        axes.locator_params(axis="x", nbins=5)
        _method_axis(axes, [method for method, _ in known])
        words = listing([f"{method} {compact(value)}" for method, value in known])
        return to_svg(figure, name, f"Bars of {xlabel} per method: {words}.")


def calibration(
    points_of: Mapping[str, tuple[Floats, Floats, Floats]], looks: Mapping[str, Style]
) -> Markup | None:
    """Accuracy against confidence, a line a method; the dashed line is that of a calibrated network.

    Args:
        points_of: per method mean confidence, accuracy and number of predictions in each bin of confidence,
            ``(B,)`` each; bins of fewer than ``FEW_ANSWERS`` are left out.
        looks: per method.
    """
    filled = {
        name: (100 * confidence[counts >= FEW_ANSWERS], 100 * accuracy[counts >= FEW_ANSWERS])
        for name, (confidence, accuracy, counts) in points_of.items()
        if (counts >= FEW_ANSWERS).any()
    }
    if not filled:
        return None
    with drawing(), curve_figure(250) as (figure, axes):
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1.2, linestyle=(0, (3, 3)))
        for name, (confidence, accuracy) in filled.items():
            look = looks[name]
            axes.plot(
                confidence,
                accuracy,
                color=look.color,
                linestyle=look.linestyle,
                marker=look.marker,
                markersize=3.2,
            )
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        axes.set_xlabel("confidence (%)")
        axes.set_ylabel("accuracy (%)")
        words = "; ".join(
            f"{name} {listing([f'{a:.0f} at {c:.0f}' for c, a in zip(*both, strict=True)])}"
            for name, both in filled.items()
        )
        return to_svg(figure, "calibration", f"Accuracy in percent by confidence in percent: {words}.")
