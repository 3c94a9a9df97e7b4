"""Values put into a plan: settings by their names, options of its parts by part and option."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lessonplan.errors import ConfigError, unknown
from lessonplan.lab.methods import Method
from lessonplan.lab.plan_file import PlanFile
from lessonplan.lab.tuning.space import Dimension, Value, as_text
from lessonplan.parts.own import is_own
from lessonplan.plan import Plan
from lessonplan.settings import Settings

PARTS = ("select", "order", "mix")
_SEPARATORS = re.compile(r"(>>|[|()])")
_NOT_SEARCHED = {"device", "threads", "feature_cache", "checkpoint_every", "watch"}
"""Settings that do not change a network, and the one that says what is searched for."""


def check_names(entry: PlanFile, dimensions: Sequence[Dimension]) -> list[Dimension]:
    """The dimensions with what their names belong to: of whole numbers, where only these can be.

    Raises:
        ConfigError: a name is none of a setting or an option, belongs to several parts, or a value is refused.
    """
    return [_checked(entry, dimension) for dimension in dimensions]


def _checked(entry: PlanFile, dimension: Dimension) -> Dimension:
    name = dimension.name
    if "." not in name:
        searchable = sorted(set(Settings.model_fields) - _NOT_SEARCHED)
        if name in _NOT_SEARCHED:
            raise ConfigError(f"{name} is nothing to search: it does not change how a network is trained")
        if name not in Settings.model_fields:
            options = [f"{part}.OPTION" for part in PARTS if getattr(entry.method.plan, part) is not None]
            raise unknown("number of the plan", name, [*searchable, *options])
    if dimension.whole:  # only where a fraction is refused
        assert dimension.low is not None
        try:
            with_values(entry, {name: dimension.low + 0.5})
        except ConfigError:
            pass
        else:
            dimension = replace(dimension, whole=False)
    for value in dimension.ends():
        try:
            with_values(entry, {name: value})
        except ConfigError as error:
            raise ConfigError(f"{dimension.text()} cannot be searched: {error}") from None
    return dimension


def with_values(entry: PlanFile, values: Mapping[str, Value]) -> PlanFile:
    """The plan with other numbers.

    Args:
        entry: the plan.
        values: by name, see ``Dimension``.

    Raises:
        ConfigError: a name belongs to nothing in the plan, or to several parts; or a value is refused.

    >>> entry = PlanFile(Method("a", Plan.parse("select:accuracy + mixup|cutmix")))
    >>> with_values(entry, {"lr": 0.1, "mix.mixup.alpha": 0.3, "select.margin": 0.2}).content()["mix"]
    'mixup:alpha=0.3|cutmix'
    """
    settings = dict(entry.method.settings)
    texts = {part: _text(entry, part) for part in PARTS}
    for name, value in values.items():
        part, dot, option = name.partition(".")
        if not dot:
            settings[name] = value
        elif part not in PARTS:
            raise unknown("part of a plan", part, PARTS)
        else:
            texts[part] = _with_option(part, texts[part], option, as_text(value))
    Settings.make(**settings)
    plan = Plan.from_texts(**texts)
    return replace(entry, method=Method(entry.name, plan, settings))


def _text(entry: PlanFile, part: str) -> str:
    held = getattr(entry.method.plan, part)
    return "none" if held is None else str(entry.content()[part])


def _with_option(part: str, text: str, option: str, value: str) -> str:
    """A part's text with an option of one of its members set."""
    if text == "none":
        raise ConfigError(
            f"{part}.{option} is of no part of the plan, which has no {part}: give one with --{part}"
        )
    pieces = _SEPARATORS.split(text)
    member, dot, short = option.rpartition(".")
    taking, refused = [], []
    for place, piece in enumerate(pieces):
        head, options = _head(piece.strip())
        if not head or (dot and head != member):
            continue
        spelled = ",".join(
            [*(item for item in options if item.partition("=")[0].strip() != short), f"{short}={value}"]
        )
        changed = "".join([*pieces[:place], _like(piece, f"{head}:{spelled}"), *pieces[place + 1 :]])
        try:
            Plan.from_texts(**{part: changed})
        except ConfigError as error:
            refused.append(error)
        else:
            taking.append((head, changed))
    if len(taking) > 1:
        names = " or ".join(f"{part}.{head}.{short}" for head, _ in taking)
        raise ConfigError(f"{part}.{option} could be that of several: write {names}")
    if taking:
        return taking[0][1]
    # A part that has the option and refuses the value says why; others only that they do not have it.
    refused.sort(key=lambda error: str(error).startswith("unknown option"))
    raise refused[0] if refused else unknown(f"member of {part} {text}", member, [_head(p)[0] for p in pieces])


def _head(piece: str) -> tuple[str, list[str]]:
    """A member's name, and its options as they are written; no name for what stands between members."""
    if not piece or _SEPARATORS.fullmatch(piece) or piece.startswith(":"):
        return "", []
    fields = piece.split(":")
    count = 2 if is_own(piece) else 1
    head, options = ":".join(fields[:count]), ":".join(fields[count:])
    return head, [item for item in options.split(",") if item]


def _like(piece: str, text: str) -> str:
    """With the space around it that the piece has."""
    return piece.replace(piece.strip(), text, 1)
