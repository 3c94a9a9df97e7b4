"""From a matplotlib figure to inline SVG that takes its colours and its font from the page."""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import Formatter

from lessonplan.report.formatting import MINUS, compact
from lessonplan.report.palette import INK, LINE, MUTED, VARIABLES

WIDTH = 380  # SVG units; a column of the page on a desk, the whole width of a phone
NARROW = 300  # of three columns
MARGINS = (60.0, 12.0, 38.0, 8.0)  # of curves: numbers such as -0.0001, one line of words beside and below
_PLACES = re.compile(r"(?<=\d\.\d\d)\d+")  # of coordinates: a hundredth of a unit is less than a screen shows

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lessonplan",
    "text.parse_math": False,  # a "$" in a method's name is a dollar sign
    "axes.unicode_minus": True,
    "font.size": 10.5,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "axes.linewidth": 0.8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "lines.scale_dashes": False,
    "path.simplify_threshold": 0.2,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Our settings while a figure is made and written; the user's come back afterwards."""
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # The browser has the glyphs; matplotlib's own font is only used to measure.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(
    height: float, *, narrow: bool = False, margins: tuple[float, float, float, float] | None = None
) -> tuple[Figure, Axes]:
    """An empty figure as wide as a column of two, or of three (narrow). Call inside `drawing`.

    Args:
        height: in SVG units.
        narrow: for ``panels`` of three columns, where letters would otherwise shrink.
        margins: left, right, bottom and top, in SVG units, for labels whose room is known; None measures all of
            them, which takes as long as drawing.
    """
    width = NARROW if narrow else WIDTH
    size = (width / 72, height / 72)
    if margins is None:
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots()
    figure = Figure(figsize=size)
    left, right, bottom, top = margins
    return figure, figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    )


_spare: dict[tuple[float, bool], list[tuple[Figure, Axes]]] = {}
_SPARE = 4  # figures of a size that are kept


@contextmanager
def curve_figure(height: float, *, narrow: bool = False) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure with the margins of curves, for what plots and fills and no more. Use inside `drawing`.

    Figures are used again, for a page has dozens of them and to make axes and ticks takes longer than to draw.

    Args:
        height: in SVG units.
        narrow: as for ``new_figure``.
    """
    kept = _spare.setdefault((height, narrow), [])
    figure, axes = kept.pop() if kept else new_figure(height, narrow=narrow, margins=MARGINS)
    yield figure, axes
    for artist in (*axes.lines, *axes.collections):
        artist.remove()
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("linear")  # brings the locators and formatters with it
        axis.set_label_text("")
    axes.relim()
    axes.autoscale()
    if len(kept) < _SPARE:
        kept.append((figure, axes))


def text_width(texts: Sequence[str], size: float) -> float:
    """Room that the widest of some words takes, in SVG units; 0 where there are none.

    Signs that are as wide as they are high (Chinese, Japanese, Korean), which matplotlib's font lacks, count so.
    """
    font = FontProperties(size=size)

    def width(text: str) -> float:
        narrow = "".join(sign for sign in text if unicodedata.east_asian_width(sign) not in "WF")
        measured: float = text_to_path.get_text_width_height_descent(narrow, font, False)[0] if narrow else 0.0
        return measured + size * (len(text) - len(narrow))

    return max(map(width, texts), default=0.0)


_LONGEST = 7  # signs of a number for which the margin of curves has room


def _by_powers(value: float, digits: int) -> str:
    """A number near 0 by a power of ten.

    >>> _by_powers(0.0, 3), _by_powers(-0.000025, 3)
    ('0', '−2.5e−5')
    """
    if value == 0:
        return "0"
    factor, power = f"{value:.{digits - 1}e}".split("e")
    return f"{float(factor):g}e{int(power)}".replace("-", MINUS)


class Compact(Formatter):
    """Ticks as 10k, 1.5M, with as many digits as it takes to tell them apart."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return compact(x)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """All ticks of an axis.

        >>> Compact().format_ticks([2.362, 2.364, 2.366]), Compact().format_ticks([0, 5000])
        (['2.362', '2.364', '2.366'], ['0', '5k'])
        >>> Compact().format_ticks([0.00017, 0.000175, 0.00018])  # 0.000175 would lie over words
        ['1.7e−4', '1.75e−4', '1.8e−4']
        """
        for digits in range(3, 8):
            texts = [compact(value, digits) for value in values]
            if len(set(texts)) == len(texts):
                break
        if max(map(len, texts), default=0) > _LONGEST and max(map(abs, values)) < 1e-3:
            return [_by_powers(value, digits) for value in values]
        return texts


def compact_axis(axes: Axes, which: str = "x") -> None:
    """Write an axis' ticks as 10k, 1.5M."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(Compact())


def to_svg(figure: Figure, name: str, label: str) -> Markup:
    """Write a figure as inline SVG.

    Args:
        figure: drawn in the placeholder colours of :mod:`lessonplan.report.palette`. Call inside `drawing`.
        name: prefix that keeps this figure's element ids apart from others on the page; ``[a-z0-9-]+``.
        label: what the figure shows, in words; escaped here.

    Returns:
        An ``<svg>`` element without width and height, ``role="img"``, labelled.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)
    body = re.sub(r"font: ([0-9.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    for placeholder, variable in VARIABLES.items():
        body = body.replace(placeholder, f"var({variable})")
    body = re.sub(r' d="([^"]+)"', lambda path: f' d="{_PLACES.sub("", path[1])}"', body)
    body = re.sub(r"\n\s*", "\n", body)
    frame = box.group(1) if box else f"0 0 {WIDTH} {WIDTH}"
    return Markup(f'<svg class="plot" viewBox="{frame}" role="img" aria-label="{escape(label)}">{body}')
