"""Selections written as text: ``"accuracy:margin=0.2 >> topk:0.5 >> batchwise:overflow=discard"``."""

from __future__ import annotations

import inspect
import typing
from dataclasses import fields
from typing import Any

from lessonplan.errors import ConfigError, unknown
from lessonplan.select.asking import Scoring
from lessonplan.select.base import Part
from lessonplan.select.batchwise import Batchwise
from lessonplan.select.epochwise import Epochwise
from lessonplan.select.selection import Selection
from lessonplan.select.spec import parse_part
from lessonplan.select.when import Selecting
from lessonplan.text_options import convert

STAGES: dict[str, Any] = {"epochwise": Epochwise, "batchwise": Batchwise}


def parse_select(text: str) -> Selecting:
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
    return Selecting(stages.get("epochwise"), stages.get("batchwise"))


def _stage(name: str, parts: list[Part], options: str) -> Any:
    cls = STAGES[name]
    own = typing.get_type_hints(cls.__init__)
    how = typing.get_type_hints(Scoring)
    allowed = [p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "selection", "scoring")]
    scoring_options = [field.name for field in fields(Scoring)]
    given: dict[str, Any] = {}
    scoring: dict[str, Any] = {}
    fill: Any = "none"
    for item in filter(None, options.split(",")):
        key, equals, value = (piece.strip() for piece in item.partition("="))
        if not equals:
            raise ConfigError(f"{item!r} in {name}:{options} is no option: write option=value")
        if key == "fill":
            fill = value
        elif key in scoring_options:
            scoring[key] = convert(f"{name}:{key}", value, how[key])
        elif key in allowed:
            given[key] = convert(f"{name}:{key}", value, own[key])
        else:
            raise unknown(f"option of {name}", key, [*allowed, "fill", *scoring_options])
    return cls(Selection(parts, fill=fill), scoring=Scoring(**scoring), **given)
