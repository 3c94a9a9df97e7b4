"""Mixes written as text: ``"cascade:k=4,patience=5"``, ``"mixup:until=80%"``, ``"mixup|cutmix"``."""

from __future__ import annotations

import re
import types
import typing
from dataclasses import fields
from typing import Any

from lessonplan.errors import ConfigError, unknown
from lessonplan.mix.base import Mix
from lessonplan.mix.cascade import Cascade, GradualCascade
from lessonplan.mix.combine import Choice, Probability, Until
from lessonplan.mix.manifold import ManifoldMixup
from lessonplan.mix.pairs import CutMix, Cutout, Mixup, SamplePairing
from lessonplan.mix.puzzle import PuzzleMix
from lessonplan.mix.sums import SumAugment

MIXES: dict[str, type[Mix]] = {
    cls.name: cls
    for cls in (
        SumAugment,
        Cascade,
        GradualCascade,
        Mixup,
        CutMix,
        Cutout,
        SamplePairing,
        ManifoldMixup,
        PuzzleMix,
    )
}
NO_MIX = ("none", "erm")


def parse_mix(text: str) -> Mix | None:
    """Make a mix from its text.

    Args:
        text: ``name`` or ``name:option=value,...``; ``a|b`` draws one of several for each batch. Every mix
            also takes ``p=0.5`` (applied to that share of the batches) and ``until=80%`` (then clean
            samples). Lists are written with slashes (``shares=.5/.3/.2``). ``none`` and ``erm`` give None.

    Raises:
        ConfigError: the name or an option is unknown, or a value does not fit; the nearest name is offered.

    >>> parse_mix("cascade:k=4,patience=5").stages
    (4, 2, 1)
    >>> parse_mix("mixpu")
    Traceback (most recent call last):
    ...
    lessonplan.errors.ConfigError: unknown mix 'mixpu': did you mean 'mixup'? ...
    """
    parts = [part.strip() for part in text.split("|")]
    if len(parts) > 1:
        members = [parse_mix(part) for part in parts]
        chosen = [member for member in members if member is not None]
        if len(chosen) < len(members):
            raise ConfigError(f"{text!r} chooses between mixes and 'none' is none: write mixup:p=0.5, say")
        return Choice(chosen)
    name, _, options = parts[0].partition(":")
    if name in NO_MIX:
        if options:
            raise ConfigError(f"{name!r} takes no options, but {options!r} was given")
        return None
    if name not in MIXES:
        raise unknown("mix", name, [*MIXES, *NO_MIX])
    return _build(MIXES[name], options)


def _build(cls: type[Mix], options: str) -> Mix:
    hints = typing.get_type_hints(cls)
    allowed = {f.name: hints[f.name] for f in fields(cls) if f.init and f.repr}
    given: dict[str, Any] = {}
    wrap: dict[str, str] = {}
    for item in filter(None, options.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise ConfigError(f"{item!r} in {cls.name}:{options} is no option: write option=value")
        if key in ("until", "p"):
            wrap[key] = value
        elif key in allowed:
            given[key] = _convert(f"{cls.name}:{key}", value, allowed[key])
        else:
            raise unknown(f"option of {cls.name}", key, [*allowed, "p", "until"])
    mix = cls(**given)
    if "p" in wrap:
        mix = Probability(mix, p=_convert(f"{cls.name}:p", wrap["p"], float))
    return Until(mix, wrap["until"]) if "until" in wrap else mix


def _convert(where: str, text: str, hint: Any) -> Any:
    """Read a value as the option's annotation says."""
    choices = _literals(hint)
    if text in choices:
        return text
    kinds = _plain_types(hint)
    if text.lower() == "none" and type(None) in kinds:
        return None
    if bool in kinds:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif int in kinds and re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    elif float in kinds:
        try:
            return float(text)
        except ValueError:
            pass
    elif list in kinds:
        try:
            return tuple(float(part) for part in text.split("/"))
        except ValueError:
            pass
    elif tuple in kinds:
        return tuple(part.strip() for part in text.split("/"))
    names = [f"'{c}'" for c in choices] + [_KIND_NAMES[kind] for kind in kinds if kind in _KIND_NAMES]
    raise ConfigError(f"{where}={text!r} cannot be used: give {' or '.join(names)}")


_KIND_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "none",
    list: "numbers separated by slashes",
}


def _members(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(hint) for member in _members(part)]
    return [hint]


def _literals(hint: Any) -> list[str]:
    return [c for m in _members(hint) if typing.get_origin(m) is typing.Literal for c in typing.get_args(m)]


def _plain_types(hint: Any) -> list[type]:
    """The simple types of an annotation; a sequence of numbers counts as ``list``, one of names as ``tuple``."""
    kinds: list[type] = []
    for member in _members(hint):
        if isinstance(member, type):
            kinds.append(member)
        elif typing.get_args(member) in ((float,), (int,)):
            kinds.append(list)
        elif typing.get_args(member) == (str,):
            kinds.append(tuple)
    return kinds
