"""How numbers are written on a page: one rule for each kind, and one dash for what is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from lessonplan.errors import visible

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: Any) -> float | None:
    """The value as a finite float, or None for anything that is not one (null, NaN, text, a truth value).

    >>> number(3), number(float("nan")), number(None), number("3")
    (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def fixed(value: Any, digits: int = 2) -> str:
    """A number with a fixed count of decimals and a true minus sign.

    >>> fixed(-0.5), fixed(None)
    ('−0.50', '–')
    """
    known = number(value)
    return MISSING if known is None else f"{known:,.{digits}f}".replace("-", MINUS)


def percent(value: Any, digits: int = 2) -> str:
    """A share in [0, 1] as a percentage without its sign.

    >>> percent(0.9125)
    '91.25'
    """
    known = number(value)
    return MISSING if known is None else fixed(100 * known, digits)


def points(value: Any, digits: int = 2) -> str:
    """A difference of two shares in percentage points, always with its sign.

    >>> points(0.0125), points(-0.02)
    ('+1.25', '−2.00')
    """
    text = percent(value, digits)
    return text if text == MISSING or text.startswith(MINUS) else f"+{text}"


def interval(bounds: Sequence[Any] | None, signed: bool = False) -> str:
    """An interval of shares in percent (signed: in points), or a dash when there is none.

    >>> interval([0.9, 0.925]), interval(None)
    ('[90.00, 92.50]', '–')
    """
    if bounds is None or len(bounds) != 2 or any(number(bound) is None for bound in bounds):
        return MISSING
    write = points if signed else percent
    return f"[{write(bounds[0])}, {write(bounds[1])}]"


def p_value(value: Any) -> str:
    """A p-value with three decimals, never a bare zero.

    >>> p_value(0.0421), p_value(1e-9)
    ('0.042', '< 0.001')
    """
    known = number(value)
    if known is None:
        return MISSING
    return "< 0.001" if known < 0.001 else f"{known:.3f}"


def count(value: Any) -> str:
    """A whole number with thousands separated.

    >>> count(90000)
    '90,000'
    """
    known = number(value)
    return MISSING if known is None else f"{known:,.0f}"


def compact(value: Any, digits: int = 3) -> str:
    """A large number in at most four characters or so, for axes and bars.

    Args:
        value: the number.
        digits: significant ones at most.

    >>> compact(1500), compact(2_000_000), compact(0.25), compact(0)
    ('1.5k', '2M', '0.25', '0')
    """
    known = number(value)
    if known is None:
        return MISSING
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(known) >= limit:
            return f"{known / limit:.{digits}g}{unit}".replace("-", MINUS)
    return f"{known:.{digits}g}".replace("-", MINUS)


def duration(seconds: Any) -> str:
    """Seconds in the unit a person would use.

    >>> duration(4.25), duration(192), duration(5400)
    ('4.2 s', '3.2 min', '1.5 h')
    """
    known = number(seconds)
    if known is None:
        return MISSING
    if known < 100:
        return f"{known:.1f} s"
    return f"{known / 60:.1f} min" if known < 3600 else f"{known / 3600:.1f} h"


def shorten(text: str, length: int = 20) -> str:
    """A user's string on one line of at most ``length`` characters, for use inside a figure.

    >>> shorten("a very long name of a method", 12)
    'a very long…'
    """
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def shown(text: str) -> str:
    r"""A user's string for a table or a line that rich prints: as it is, without any power over the terminal.

    >>> shown("[red]\x1b[2J")
    '\\[red]\\x1b[2J'
    """
    return escape(visible(text))


def listing(names: Sequence[str]) -> str:
    """Names as a person would list them.

    >>> listing(["sum", "mixup", "cascade"])
    'sum, mixup and cascade'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
