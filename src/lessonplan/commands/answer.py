"""What a command found: as data for scripts, in words for people, and its exit code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Talk:
    """What a command says."""

    quiet: bool = False
    """say nothing but warnings and errors: no progress, no summary"""
    json: bool = False
    """give what was found as one JSON object on standard output, and words on standard error alone"""


TALK = Talk()


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Attributes:
        data: plain values: what ``--json`` gives.
        show: prints it in words.
        code: exit code: 0, or 1 where something failed or does not hold.
    """

    data: Mapping[str, Any]
    show: Callable[[], None]
    code: int = 0


def plain(value: Any) -> Any:
    """A value as strict JSON knows it: paths as text, and null for NaN and infinity.

    >>> from pathlib import Path
    >>> plain({"a": (1.0, float("nan")), Path("b"): Path("c")})
    {'a': [1.0, None], 'b': 'c'}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
