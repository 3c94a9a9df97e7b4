"""Mixes written as text: ``"cascade:k=4,patience=5"``, ``"mixup:until=80%"``, ``"mixup|cutmix"``."""

from __future__ import annotations

from lessonplan.errors import ConfigError, unknown
from lessonplan.mix.base import Mix
from lessonplan.mix.cascade import Cascade, GradualCascade
from lessonplan.mix.combine import Choice, Probability, Until
from lessonplan.mix.manifold import ManifoldMixup
from lessonplan.mix.pairs import CutMix, Cutout, Mixup, SamplePairing
from lessonplan.mix.puzzle import PuzzleMix
from lessonplan.mix.sums import SumAugment
from lessonplan.text_options import convert, read_options

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
    given, wrap = read_options(cls, options, extra=("p", "until"))
    mix = cls(**given)
    if "p" in wrap:
        mix = Probability(mix, p=convert(f"{cls.name}:p", wrap["p"], float))
    return Until(mix, wrap["until"]) if "until" in wrap else mix
