"""A comparison's learning curves: one line a method, against whichever axis the reader turns the page to."""

from __future__ import annotations

from typing import Any

from lessonplan.report import plots
from lessonplan.report.axes import COST, FINISHED_EPOCHS, PASSES, SECONDS, UPDATES, Axis
from lessonplan.report.bands import Band, mean_band
from lessonplan.report.overlays import Group, Overlay, Stored, groups
from lessonplan.report.palette import Style
from lessonplan.report.panels import panel

_SAME_WITHIN = 1.02
_ALWAYS = (COST, FINISHED_EPOCHS)
_WHERE_THEY_DIFFER = (UPDATES, PASSES, SECONDS)


def curve_axes(stored: Stored, looks: dict[str, Style], level: float) -> list[dict[str, Any]]:
    """For each axis of the page's switch its name, its label, and the groups of panels against it.

    Cost comes first and epochs, by which the sources compare, second; others where they tell another story than
    cost does.
    """
    shown = groups(stored)
    found = []
    for axis in (*_ALWAYS, *(axis for axis in _WHERE_THEY_DIFFER if differs_from_cost(stored, axis))):
        drawn = [_group(group, axis, stored, looks, level) for group in shown]
        drawn = [group for group in drawn if group["panels"]]
        if drawn:
            found.append({"name": axis.name, "words": axis.words, "groups": drawn})
    return found


def differs_from_cost(stored: Stored, axis: Axis) -> bool:
    """Whether an axis would show curves shifted against each other, in comparison with cost."""
    factors = []
    for run in (run for runs in stored.values() for run in runs):
        x, cost = run.curve("cost", against=axis)
        if len(x) and cost[-1] > 0 and x[-1] > 0:
            factors.append(x[-1] / cost[-1])
    return len(factors) > 1 and max(factors) > _SAME_WITHIN * min(factors)


def _group(group: Group, axis: Axis, stored: Stored, looks: dict[str, Style], level: float) -> dict[str, Any]:
    panels = []
    for overlay in group.overlays:
        if axis in overlay.not_against:
            continue
        svg = plots.learning_curves(
            _bands(overlay, axis, stored, level), looks, name=f"curve-{overlay.name}-{axis.name}",
            ylabel=overlay.ylabel, as_percent=overlay.percent, axis=axis, narrow=True, line_at=overlay.line_at,
        )  # fmt: skip
        panels += panel(overlay.title, overlay.caption, svg)
    return {"title": group.title, "about": group.about, "panels": panels}


def _bands(overlay: Overlay, axis: Axis, stored: Stored, level: float) -> dict[str, Band]:
    """Per method the band of one value, of the methods that have it."""
    bands = {name: mean_band([overlay.points(run, axis) for run in runs], level) for name, runs in stored.items()}
    return {name: band for name, band in bands.items() if band is not None}
