"""One look per method, the same in every figure: a colour, a dash and a marker.

Figures are drawn in placeholder colours that :mod:`lessonplan.report.svg` turns into CSS variables, so that
one drawing serves a light and a dark page. The hues follow Okabe and Ito (2008), deepened for a light page
and raised for a dark one; dash and marker carry the same information for whoever cannot tell the hues apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INK = "#0a0b01"
MUTED = "#0a0b02"
LINE = "#0a0b03"
ACCENT = "#0a0b04"
PAPER = "#0a0b05"

# (light page, dark page); the first is the reference's
HUES = (
    ("#4a525a", "#c3cad1"),
    ("#0072b2", "#5cb3f0"),
    ("#d55e00", "#ff9a5a"),
    ("#00805f", "#3fcfa4"),
    ("#b0478a", "#ec94c8"),
    ("#8a6d00", "#e2c14b"),
    ("#5a4bb0", "#b0a4f7"),
    ("#1e8fb8", "#8fdcf5"),
    ("#8c4a2f", "#d9a083"),
)
_DASHES = ("", "6 2", "2 2", "7 2 2 2")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", ACCENT: "--accent", PAPER: "--card"} | {
    f"#0b0c{index:02x}": f"--m{index}" for index in range(len(HUES))
}


@dataclass(frozen=True)
class Style:
    """How a method is drawn.

    Attributes:
        color: placeholder colour for matplotlib.
        variable: the CSS variable it becomes.
        dash: an SVG dash pattern in line widths' units, empty for a solid line.
        marker: a matplotlib marker.
    """

    color: str
    variable: str
    dash: str
    marker: str

    @property
    def linestyle(self) -> str | tuple[float, tuple[float, ...]]:
        """The dash as matplotlib takes it."""
        return (0.0, tuple(float(part) for part in self.dash.split())) if self.dash else "solid"


def style(index: int) -> Style:
    """The look number ``index``; 0 is neutral and meant for the reference.

    >>> style(1).variable, style(9).variable, style(1).dash == style(9).dash
    ('--m1', '--m1', False)
    """
    hue = index if index < len(HUES) else 1 + (index - 1) % (len(HUES) - 1)
    turn = 0 if index < len(HUES) else (index - 1) // (len(HUES) - 1)
    return Style(f"#0b0c{hue:02x}", f"--m{hue}", _DASHES[turn % len(_DASHES)], _MARKERS[index % len(_MARKERS)])


def styles(names: Sequence[str], reference: str | None) -> dict[str, Style]:
    """A look for every method; the reference is neutral, the others take the hues in their order.

    >>> {name: look.variable for name, look in styles(["a", "erm", "b"], "erm").items()}
    {'a': '--m1', 'erm': '--m0', 'b': '--m2'}
    """
    others = [name for name in names if name != reference]
    return {name: style(0 if name == reference else 1 + others.index(name)) for name in names}
