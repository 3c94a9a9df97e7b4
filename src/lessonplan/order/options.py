"""Options that orderers share, read and checked."""

from __future__ import annotations

import re
from typing import Literal, TypeVar

from lessonplan.errors import ConfigError

Amount = int | Literal["all"]
T = TypeVar("T")


def read_warmup(text: str | None) -> tuple[float, str]:
    """How long ordering is on: an amount, and "ep", "%" or "steps".

    >>> read_warmup("5ep"), read_warmup("20%")
    ((5.0, 'ep'), (20.0, '%'))
    """
    if text is None:
        return float("inf"), "ep"
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ep|%|steps)\s*", text)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"warmup={text!r} cannot be read: give '5ep', '20%' or '500 steps', above 0, or none")
    return float(match[1]), match[2]


def check_amount(name: str, option: str, value: Amount) -> None:
    """A number of 1 or more, or "all".

    Raises:
        ConfigError: it is neither.
    """
    if value != "all" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{name}: {option}={value!r}: give a number of 1 or more, or 'all'")


def given(value: T | None, otherwise: str) -> T:
    """The value, or a ``ConfigError`` that says what is missing."""
    if value is None:
        raise ConfigError(otherwise)
    return value
