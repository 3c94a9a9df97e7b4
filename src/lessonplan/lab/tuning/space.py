"""What is searched: ``"lr=1e-3..1e-1 log, mix.k=2|4|8, select.margin=0..0.5"``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lessonplan.errors import ConfigError
from lessonplan.text_options import guess

Value = int | float | str | bool | None
DIGITS = 4
"""Significant digits of a number that is tried: more make no difference that could be seen."""


@dataclass(frozen=True)
class Dimension:
    """A number that is searched for, or a choice.

    Args:
        name: a setting (``lr``), or a part and its option (``mix.k``, ``select.topk.size``).
        low, high: ends of a range, both of them in it; None for a choice.
        log: whether factors count, not differences; then ``low`` is above 0.
        whole: whether only whole numbers are tried.
        choices: what is chosen from; empty for a range.
    """

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Value, ...] = ()

    def at(self, place: float) -> Value:
        """The value at a place in [0, 1): a range's share, or one of the choices.

        >>> Dimension("lr", 1e-3, 1e-1, log=True).at(0.5), Dimension("k", choices=(2, 4, 8)).at(0.7)
        (0.01, 8)
        """
        if self.choices:
            return self.choices[int(place * len(self.choices))]
        assert self.low is not None
        assert self.high is not None
        if self.whole and self.log:  # so that both ends get the width of one number, as within
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return self.tidy(math.exp(low + place * (high - low)))
        if self.whole:
            return min(int(self.low + place * (self.high - self.low + 1)), int(self.high))
        if self.log:
            return self.tidy(self.low * (self.high / self.low) ** place)
        return self.tidy(self.low + place * (self.high - self.low))

    def tidy(self, value: Value) -> Value:
        """A number of the range with few digits; a choice as it is."""
        if self.choices:
            return value
        assert self.low is not None
        assert self.high is not None
        assert isinstance(value, (int, float))
        if self.whole:
            return int(min(max(round(value), self.low), self.high))
        return float(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))

    def ends(self) -> tuple[Value, ...]:
        """What has to be possible for the dimension to be: all choices, or both ends."""
        if self.choices:
            return self.choices
        return (self.tidy(self.low), self.tidy(self.high))

    def text(self) -> str:
        """As it is written."""
        if self.choices:
            return f"{self.name}={'|'.join(as_text(choice) for choice in self.choices)}"
        return f"{self.name}={self.low:g}..{self.high:g}{' log' if self.log else ''}"


def as_text(value: Value) -> str:
    """A value as it is written in a plan.

    >>> as_text(0.05), as_text(4), as_text(True), as_text(None)
    ('0.05', '4', 'true', 'none')
    """
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return str(value)


def read_search(given: str | Mapping[str, str]) -> list[Dimension]:
    """Dimensions from their text, or from a mapping of names to ranges and choices.

    A range whose two ends are written as whole numbers may be one of whole numbers: what it belongs to says.

    Raises:
        ConfigError: it is empty, a range is none, a choice has a single value, or a name is given twice.

    >>> [d.text() for d in read_search("lr=1e-3..1e-1 log, mix.k=2|4|8")]
    ['lr=0.001..0.1 log', 'mix.k=2|4|8']
    """
    if isinstance(given, str):
        pairs: list[tuple[str, str]] = []
        for item in filter(None, (piece.strip() for piece in given.split(","))):
            name, equals, rest = (piece.strip() for piece in item.partition("="))
            if not equals or not name or not rest:
                raise ConfigError(f"{item!r} is nothing to search: write lr=1e-3..1e-1 log, or mix.k=2|4|8")
            pairs.append((name, rest))
    else:
        pairs = [(str(name).strip(), str(rest).strip()) for name, rest in given.items()]
    if not pairs:
        raise ConfigError("there is nothing to search: give for example --search 'lr=1e-3..1e-1 log, mix.k=2|4|8'")
    found = [_dimension(_spelled(name), rest) for name, rest in pairs]
    names = [dimension.name for dimension in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is searched twice: leave one of them out")
    return found


def _spelled(name: str) -> str:
    """Settings may be written with a dash, as on the command line."""
    return name if "." in name else name.replace("-", "_")


def _dimension(name: str, rest: str) -> Dimension:
    if ".." not in rest:
        choices = tuple(guess(piece.strip()) for piece in rest.split("|"))
        if len(choices) < 2 or "" in choices:
            raise ConfigError(
                f"{name}={rest} leaves nothing to choose: give two values or more (2|4|8), or a range (0..0.5)"
            )
        if len({as_text(choice) for choice in choices}) < len(choices):
            raise ConfigError(f"{name}={rest} names a value twice: leave one of them out")
        return Dimension(name, choices=choices)
    read = re.fullmatch(r"(\S+?)\s*\.\.\s*(\S+)(?:\s+(log))?", rest)
    ends = []
    for text in read.groups()[:2] if read else ():
        try:
            ends.append(float(text))
        except ValueError:
            break
    if read is None or len(ends) < 2 or not all(map(math.isfinite, ends)):
        raise ConfigError(f"{name}={rest} cannot be read: write a range as 1e-3..1e-1 or 1e-3..1e-1 log")
    low, high, log = ends[0], ends[1], read[3] is not None
    if not low < high:
        raise ConfigError(
            f"{name}={rest} is an empty range: write the lower end first, and a higher one behind it"
        )
    if log and low <= 0:
        raise ConfigError(f"{name}={rest}: a logarithm needs numbers above 0; give a lower end above 0, or no log")
    whole = all(re.fullmatch(r"[+-]?\d+", text) for text in read.groups()[:2])
    return Dimension(name, low, high, log, whole)
