"""Filters and selectors written as text: ``"accuracy:margin=0.2"``, ``"topk:0.5"``."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from lessonplan.errors import unknown
from lessonplan.select.base import Part
from lessonplan.select.control import MatchedRandom
from lessonplan.select.filters import AccuracyFilter, MarginFilter
from lessonplan.select.published import (
    ActiveBias,
    GradientNorm,
    InfoBatch,
    RecencyBias,
    RhoLoss,
    SelectiveBackprop,
)
from lessonplan.select.selectors import LossWeighted, QSplit, RandomSubset, TopK, TopQuantile, Uniform
from lessonplan.text_options import read_options

PARTS: dict[str, type[Part]] = {
    cls.name: cls
    for cls in (
        AccuracyFilter,
        MarginFilter,
        MatchedRandom,
        TopK,
        TopQuantile,
        LossWeighted,
        QSplit,
        RandomSubset,
        Uniform,
        SelectiveBackprop,
        InfoBatch,
        GradientNorm,
        RhoLoss,
        RecencyBias,
        ActiveBias,
    )
}


def parse_part(text: str) -> Part:
    """Make a filter or a selector from its text.

    Args:
        text: ``name`` or ``name:option=value,...``; the first value may go without its name, so that
            ``topk:128`` takes 128 samples and ``topk:0.5`` half of them.

    Raises:
        ConfigError: the name or an option is unknown, or a value does not fit; the nearest name is offered.

    >>> parse_part("qsplit:0.25,q=4,power=2->0.5")
    QSplit(size=0.25, q=4, power='2->0.5')
    >>> parse_part("tpk")
    Traceback (most recent call last):
    ...
    lessonplan.errors.ConfigError: unknown filter or selector 'tpk': did you mean 'topk'?
    """
    name, _, options = (piece.strip() for piece in text.partition(":"))
    if name not in PARTS:
        raise unknown("filter or selector", name, PARTS)
    cls = PARTS[name]
    items = [item.strip() for item in options.split(",") if item.strip()]
    if items and "=" not in items[0]:
        items[0] = f"{_first_option(cls)}={items[0]}"
    free = _free_text(cls)
    texts = {key: free[key](value) for key, value in map(_pair, items) if key in free}
    rest = ",".join(item for item in items if _pair(item)[0] not in free)
    given, _ = read_options(cls, rest)
    return cls(**given, **texts)


def _first_option(cls: type[Part]) -> str:
    return next(f.name for f in fields(cls) if f.init and not f.kw_only)


def _free_text(cls: type[Part]) -> dict[str, Callable[[str], Any]]:
    """Options that may be any text, which the part itself judges, and how they are read."""
    hints = typing.get_type_hints(cls)
    kinds = {f.name: typing.get_args(hints[f.name]) for f in fields(cls) if f.init}
    return {name: _number_or_text if float in kind else str for name, kind in kinds.items() if str in kind}


def _pair(item: str) -> tuple[str, str]:
    key, _, value = (piece.strip() for piece in item.partition("="))
    return key, value


def _number_or_text(value: str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value
