"""Mixes written as text: ``"cascade:k=4,patience=5"``, ``"mixup|cutmix"``, ``"mixup >> cutout"``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
_WRAP = ("p", "until")


def parse_mix(text: str) -> Mix | None:
    """Make a mix from its text.

    Args:
        text: ``name`` or ``name:option=value,...``; ``a|b`` draws one of several for each batch, ``a >> b`` mixes
            one after the other, ``(a|b):p=0.5`` puts several in brackets. A mix of your own is ``module:Class``
            or ``FILE.py:Class``, options after another colon. Every mix also takes ``p=0.5`` (applied to that
            share of the batches) and ``until=80%`` (then clean samples). Lists are written with slashes
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
        return _wrapped(mix, *_read_wrap(group[2] or ""))
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


def _read_wrap(options: str) -> tuple[str, dict[str, str]]:
    """The options behind brackets."""
    wrap = read_pairs("brackets", options)
    return "brackets", read_values("mixes in brackets", wrap, dict.fromkeys(_WRAP, str))


def _wrapped(mix: Mix, name: str, wrap: Mapping[str, str]) -> Mix:
    if "p" in wrap:
        mix = Probability(mix, p=convert(f"{name}:p", wrap["p"], float))
    return Until(mix, wrap["until"]) if "until" in wrap else mix
