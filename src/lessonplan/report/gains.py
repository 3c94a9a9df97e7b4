"""What methods gain on the reference from one comparison to the next, as figures of the page over them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from lessonplan.report.formatting import listing, number, points
from lessonplan.report.palette import MUTED, PAPER, Style, styles
from lessonplan.report.panels import Panel, panel
from lessonplan.report.plots import readable_limits
from lessonplan.report.reading import Json
from lessonplan.report.svg import drawing, new_figure, to_svg

_SPREAD = 0.76  # of the distance between two numbers, for the methods side by side


@dataclass(frozen=True)
class Gain:
    """A method's paired difference to the reference in one comparison.

    Attributes:
        place: of the comparison, from 0.
        mean: in points.
        bounds: of its interval in points; None where a single seed has none.
    """

    place: int
    mean: float
    bounds: tuple[float, float] | None


def gain_panels(figures: Sequence[Mapping[str, Any]], results: Mapping[str, Json]) -> list[Panel]:
    """The figures that can be drawn.

    Args:
        figures: each with ``title``, ``against`` (what the numbers are) and ``parts``, from a comparison's name to
            its number, in the order of the axis.
        results: ``results.json`` of the comparisons that were run.

    Returns:
        A panel a figure; none where no comparison has paired differences.
    """
    names = dict.fromkeys(m["name"] for r in results.values() for m in r["methods"])
    panels: list[Panel] = []
    for position, figure in enumerate(figures):
        there = {name: value for name, value in figure["parts"].items() if name in results}
        reference = next((results[name].get("reference") for name in there), None)
        looks = styles(list(names), reference)
        gains = _gains([results[name]["methods"] for name in there])
        panels += panel(
            figure["title"],
            f"Test accuracy minus that of {reference} at equal seeds: the mean and its interval (an arrow: it goes"
            " on). Above zero is better; an interval that crosses zero decides nothing.",
            _drawn(
                gains, [f"{value:g}" for value in there.values()], looks, f"gains-{position}", figure["against"]
            ),
            [(name, looks[name]) for name in gains],
        )
    return panels


def _gains(comparisons: Sequence[Sequence[Json]]) -> dict[str, list[Gain]]:
    """By method, in points; methods without any difference are left out."""
    found: dict[str, list[Gain]] = {}
    for place, methods in enumerate(comparisons):
        for method in methods:
            difference = method.get("difference") or {}
            mean = number(difference.get("mean"))
            if mean is None:
                continue
            low, high = (number(bound) for bound in difference.get("ci_t") or (None, None))
            bounds = None if low is None or high is None else (100 * low, 100 * high)
            found.setdefault(method["name"], []).append(Gain(place, 100 * mean, bounds))
    return found


def _drawn(
    gains: Mapping[str, Sequence[Gain]], ticks: Sequence[str], looks: Mapping[str, Style], name: str, against: str
) -> Markup | None:
    every = [gain for of_method in gains.values() for gain in of_method]
    if not every:
        return None
    with drawing():
        figure, axes = new_figure(300)
        limits = readable_limits([g.mean for g in every], [g.bounds for g in every if g.bounds is not None], 0.0)
        step = _SPREAD / len(gains)
        for row, (method, of_method) in enumerate(gains.items()):
            look = looks[method]
            shift = (row - (len(gains) - 1) / 2) * step
            at = [gain.place + shift for gain in of_method]
            means = [gain.mean for gain in of_method]
            axes.plot(at, means, color=look.color, linestyle=look.linestyle, linewidth=1, alpha=0.45, zorder=2)
            for x, gain in zip(at, of_method, strict=True):
                _interval(axes, x, gain.bounds, look, limits)
            axes.scatter(at, means, s=26, marker=look.marker, color=look.color, edgecolors=PAPER, zorder=5)
        axes.axhline(0, color=MUTED, linewidth=1.2, zorder=1)
        margin = 0.05 * ((limits[1] - limits[0]) or 1.0)
        axes.set(xlim=(-0.5, len(ticks) - 0.5), ylim=(limits[0] - margin, limits[1] + margin))
        axes.set_xticks(range(len(ticks)), list(ticks))
        axes.grid(False, axis="x")
        axes.set_xlabel(against)
        axes.set_ylabel("difference (points)")
        ends = listing(
            [
                f"{m} {', '.join(f'{ticks[g.place]}: {points(g.mean / 100)}' for g in of)}"
                for m, of in gains.items()
            ]
        )
        return to_svg(figure, name, f"Gains in points against {against}. {ends}.")


def _interval(
    axes: Axes, x: float, bounds: tuple[float, float] | None, look: Style, limits: tuple[float, float]
) -> None:
    """A vertical interval with end bars; an end outside the limits gets an arrow head instead."""
    if bounds is None:
        return
    low, high = max(bounds[0], limits[0]), min(bounds[1], limits[1])
    axes.plot([x, x], [low, high], color=look.color, linestyle=look.linestyle, linewidth=1.4, zorder=3)
    for end, bound, arrow in ((low, bounds[0], "v"), (high, bounds[1], "^")):
        axes.plot([x], [end], color=look.color, marker="_" if end == bound else arrow, markersize=5, zorder=3)
