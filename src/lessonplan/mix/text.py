"""Mixes written as text: ``"cascade:k=4,patience=5"``, ``"mixup|cutmix"``, ``"mixup >> cutout"``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lessonplan.errors import ConfigError, unknown
from lessonplan.mix.base import Mix
from lessonplan.mix.cascade import Cascade, GradualCascade
from lessonplan.mix.combine import Chain, Choice, Probability, Until
from lessonplan.mix.manifold import ManifoldMixup
from lessonplan.mix.pairs import CutMix, Cutout, Mixup, SamplePairing
from lessonplan.mix.puzzle import PuzzleMix
from lessonplan.mix.sums import SumAugment
from lessonplan.parts.own import is_own, own_class
from lessonplan.text_options import convert, read_options, read_pairs, read_values

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
_WRAP = ("p", "from", "until")
_IN_BRACKETS = {**dict.fromkeys(_WRAP, str), "weights": Sequence[float]}


def parse_mix(text: str) -> Mix | None:
    """Make a mix from its text.

    Args:
        text: ``name`` or ``name:option=value,...``; ``a|b`` draws one of several for each batch, ``a >> b`` mixes
            one after the other, ``(a|b):p=0.5`` puts several in brackets, ``(a|b):weights=0.3/0.7`` draws them
            unequally. A mix of your own is ``module:Class`` or ``FILE.py:Class``, options after another colon.
            Every mix also takes ``p=0.5`` (applied to that share of the batches), ``from=20%`` and ``until=80%``
            (clean samples before and after). Lists are written with slashes
            (``shares=.5/.3/.2``). ``none`` and ``erm`` give None.

    Raises:
        ConfigError: the name or an option is unknown, or a value does not fit; the nearest name is offered.

    >>> parse_mix("cascade:k=4,patience=5").stages
    (4, 2, 1)
    >>> parse_mix("mixpu")
    Traceback (most recent call last):
    ...
    lessonplan.errors.ConfigError: unknown mix 'mixpu': did you mean 'mixup'? ...
    """
    members = split_outside(text, "|")
    if len(members) > 1:
        return Choice(_all(text, members, "chooses between mixes"))
    links = split_outside(text, ">>")
    if len(links) > 1:
        return Chain(_all(text, links, "chains mixes"))
    group = re.fullmatch(r"\((.*)\)(?::(.*))?", text.strip(), re.DOTALL)
    if group is not None:
        mix = parse_mix(group[1])
        if mix is None:
            raise ConfigError(f"{text!r} puts 'none' in brackets: write none")
        wrap = read_values("mixes in brackets", read_pairs("brackets", group[2] or ""), _IN_BRACKETS)
        if "weights" in wrap:
            if type(mix) is not Choice:
                raise ConfigError(
                    f"{text!r} gives weights to no choice: write (mixup|cutmix):weights=0.3/0.7, say"
                )
            mix = Choice(mix.mixes, p=wrap["weights"])
        return _wrapped(mix, "brackets", wrap)
    return _one(text.strip())


def split_outside(text: str, mark: str) -> list[str]:
    """Cut a text at a mark, but not within round brackets.

    >>> split_outside("(a|b):p=0.5|c", "|")
    ['(a|b):p=0.5', 'c']
    """
    pieces, depth, last, place = [], 0, 0, 0
    while place < len(text):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0 and text.startswith(mark, place):
            pieces.append(text[last:place])
            last = place + len(mark)
            place = last
        else:
            place += 1
    return [piece.strip() for piece in [*pieces, text[last:]]]


def _all(text: str, members: Sequence[str], does: str) -> list[Mix]:
    mixes = [parse_mix(member) for member in members]
    there = [mix for mix in mixes if mix is not None]
    if len(there) < len(mixes):
        raise ConfigError(f"{text!r} {does} and 'none' is none: write mixup:p=0.5, say")
    return there


def _one(text: str) -> Mix | None:
    name, _, options = (part.strip() for part in text.partition(":"))
    if name in NO_MIX:
        if options:
            raise ConfigError(f"{name!r} takes no options, but {options!r} was given")
        return None
    if name in MIXES:
        return _build(MIXES[name], options)
    if is_own(text):
        own = own_class(text, Mix, "mix")
        return _build(own.target, own.options)
    raise unknown("mix", name, [*MIXES, *NO_MIX])


def _build(cls: type[Mix], options: str) -> Mix:
    given, wrap = read_options(cls, options, extra=_WRAP)
    return _wrapped(cls(**given), cls.name, wrap)


def _wrapped(mix: Mix, name: str, wrap: Mapping[str, Any]) -> Mix:
    if "p" in wrap:
        mix = Probability(mix, p=convert(f"{name}:p", wrap["p"], float))
    if "from" in wrap or "until" in wrap:
        return Until(mix, wrap.get("until", "100%"), wrap.get("from", 0.0))
    return mix
