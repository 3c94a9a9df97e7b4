"""Numbers that a network's spelling may hold."""

from __future__ import annotations

from lessonplan.errors import ConfigError


def blocks_per_stage(family: str, depth: int, period: int, offset: int) -> int:
    """The n of ``depth = period * n + offset``, n >= 1: how many blocks each stage of a deep network has.

    >>> blocks_per_stage("wrn", 28, period=6, offset=4)
    4
    """
    blocks, rest = divmod(depth - offset, period)
    if rest or blocks < 1:
        some = ", ".join(str(period * n + offset) for n in range(1, 5))
        also = "18 or " if family == "preact-resnet" else ""
        raise ConfigError(
            f"{family} of depth {depth} does not exist: the depth must be {also}{period}n + {offset} ({some}, ...)"
        )
    return blocks


def at_least_one(what: str, value: int) -> int:
    """The value itself if it is 1 or more; otherwise a `ConfigError` that names it."""
    if value < 1:
        raise ConfigError(f"{what} must be 1 or more, got {value}")
    return value
