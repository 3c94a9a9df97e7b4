"""The curve of a range test: on its page, and as a picture of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from lessonplan.report.lr_words import rate
from lessonplan.report.palette import HUES, MUTED, style
from lessonplan.report.reading import Json
from lessonplan.report.svg import compact_axis, drawing, new_figure, to_svg

RAW, SMOOTHED, SUGGESTED, TENTH = style(0), style(1), style(2), style(3)


@dataclass(frozen=True)
class _Colours:
    raw: str
    smoothed: str
    suggested: str
    tenth: str


_OF_A_PAGE = _Colours(RAW.color, SMOOTHED.color, SUGGESTED.color, TENTH.color)
_OF_PAPER = _Colours(*(light for light, _ in HUES[:4]))


def curve(found: Json) -> Markup | None:
    """The curve as part of the page; None without a single loss."""
    if not found["lr"]:
        return None
    with drawing():
        figure, axes = new_figure(235)
        _draw(axes, found, _OF_A_PAGE)
        axes.set_xlabel("learning rate", color=MUTED)
        words = f"Loss against the learning rate, raw and smoothed, over {len(found['lr'])} steps."
        if found["suggested"] is not None:
            words += f" The suggested learning rate is {rate(found['suggested'])}."
        return to_svg(figure, "lr", words)


def picture(found: Json) -> Figure | None:
    """The curve on white paper; None without a single loss."""
    if not found["lr"]:
        return None
    figure = Figure(figsize=(7.0, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    _draw(axes, found, _OF_PAPER)
    axes.set_xlabel("learning rate")
    axes.legend(frameon=False, loc="upper left")
    return figure


def _draw(axes: Axes, found: Json, colours: _Colours) -> None:
    lr, loss, smoothed = (np.asarray(found[key]) for key in ("lr", "loss", "smoothed"))
    axes.plot(lr, loss, color=colours.raw, linewidth=0.8, alpha=0.7, label="loss of a step")
    axes.plot(lr, smoothed, color=colours.smoothed, label="smoothed")
    axes.set_xscale("log")
    # Powers as mathematics would stand on a page as their source.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rate(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(*_limits(loss, smoothed))
    compact_axis(axes, "y")
    axes.set_ylabel("training loss")
    for key, colour, marker, word in (
        ("suggested", colours.suggested, "o", "suggested"),
        ("tenth", colours.tenth, "s", "a tenth of the lowest"),
    ):
        if found[key] is not None:
            height = float(np.interp(np.log(found[key]), np.log(lr), smoothed))
            axes.axvline(found[key], color=colour, linewidth=1.0)
            label = f"{word}: {rate(found[key])}"
            axes.plot([found[key]], [height], color=colour, marker=marker, markersize=7, linestyle="", label=label)


def _limits(loss: np.ndarray, smoothed: np.ndarray) -> tuple[float, float]:
    """All losses up to the lowest one; behind it training breaks down, by any factor."""
    before = loss[: int(smoothed.argmin()) + 1]
    low, high = float(min(loss.min(), smoothed.min())), float(before.max())
    high = max(high, float(smoothed[0]))
    room = (high - low) or abs(high) or 1.0
    return low - 0.06 * room, min(high + 0.45 * room, max(float(loss.max()), high) + 0.06 * room)
