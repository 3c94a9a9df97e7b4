"""Selections written as text: ``"accuracy:margin=0.2 >> topk:0.5 >> batchwise:overflow=discard"``."""

from __future__ import annotations

import typing
from dataclasses import fields
from typing import Any

from lessonplan.errors import ConfigError, unknown
from lessonplan.parts.own import is_own, own_class
from lessonplan.select.asking import Scoring
from lessonplan.select.base import Filter, Part, Selector
from lessonplan.select.batchwise import Batchwise
from lessonplan.select.control import MatchedRandom
from lessonplan.select.epochwise import Epochwise
from lessonplan.select.filters import AccuracyFilter, MarginFilter
from lessonplan.select.published import (
    ActiveBias,
    GradientNorm,
    InfoBatch,
    RecencyBias,
    RhoLoss,
    SelectiveBackprop,
)
from lessonplan.select.selection import Selection
from lessonplan.select.selectors import LossWeighted, QSplit, RandomSubset, TopK, TopQuantile, Uniform
from lessonplan.select.stages import SelectionStages
from lessonplan.text_options import read_options, read_pairs, read_values

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
STAGES: dict[str, Any] = {cls.name: cls for cls in (Epochwise, Batchwise)}


def parse_select(text: str) -> SelectionStages:
    """Make a selection from its text.

    Args:
        text: filters and selectors joined by ``>>``; ``epochwise`` or ``batchwise`` behind them says when, with
            options (``fill``, ``mode``, ``precision`` and ``resolution`` among them). Without one of these,
            batchwise. ``accuracy >> epochwise >> accuracy >> batchwise`` does both.

    Raises:
        ConfigError: a name or an option is unknown, or a value does not fit; the nearest name is offered.

    >>> parse_select("accuracy:margin=0.2 >> topk:0.5")
    accuracy:margin=0.2 >> topk >> batchwise
    """
    stages: dict[str, Any] = {}
    parts: list[Part] = []
    for item in (piece.strip() for piece in text.split(">>")):
        if not item:
            raise ConfigError(f"{text!r} has an empty part: write for example 'accuracy >> topk:0.5'")
        name, _, options = (word.strip() for word in item.partition(":"))
        if name not in STAGES:
            parts.append(parse_part(item))
            continue
        if name in stages or (name == "epochwise" and "batchwise" in stages):
            raise ConfigError(f"{text!r}: write epochwise before batchwise, each at most once")
        stages[name] = _stage(name, parts, options)
        parts = []
    if parts:
        if "batchwise" in stages:
            raise ConfigError(f"{text!r}: what stands behind batchwise never selects: write it before")
        stages["batchwise"] = Batchwise(Selection(parts))
    return SelectionStages(stages.get("epochwise"), stages.get("batchwise"))


def parse_part(text: str) -> Part:
    """Make a filter or a selector from its text.

    Args:
        text: ``name`` or ``name:option=value,...``; the first value may go without its name, so that
            ``topk:128`` takes 128 samples and ``topk:0.5`` half of them. One of your own is ``module:Class`` or
            ``FILE.py:Class``, options after another colon.

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
    cls: Any = PARTS.get(name)
    if cls is None and is_own(text):
        own = own_class(text, Part, "filter or selector")
        cls, options = own.target, own.options
        if not issubclass(cls, (Filter, Selector)):
            raise ConfigError(f"{own.address} is neither a filter nor a selector: derive it from one of them")
    if cls is None:
        raise unknown("filter or selector", name, PARTS)
    first = next((f.name for f in fields(cls) if f.init and not f.kw_only), None)
    given, _ = read_options(cls, options, first=first)
    part: Part = cls(**given)
    return part


def _stage(name: str, parts: list[Part], options: str) -> Any:
    cls = STAGES[name]
    how = typing.get_type_hints(Scoring)
    given = read_values(name, read_pairs(name, options), {**cls.annotations(), "fill": str, **how})
    scoring = Scoring(**{key: given.pop(key) for key in how if key in given})
    return cls(Selection(parts, fill=given.pop("fill", "none")), scoring=scoring, **given)
