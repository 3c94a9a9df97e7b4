"""Options of plain dataclasses written as text: ``"k=4,patience=5"``, read as their annotations say."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from lessonplan.errors import ConfigError, unknown


def read_options(cls: Any, options: str, extra: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of a dataclass that a text names, each as its annotation says.

    Args:
        cls: a dataclass with a ``name``; its fields that are arguments and shown by ``repr`` are its options.
        options: ``"option=value,option=value"``; lists are written with slashes.
        extra: options that are not the dataclass' own.

    Returns:
        arguments of ``cls``, and the extra options as they were written.

    Raises:
        ConfigError: an option is unknown, or a value does not fit; the nearest name is offered.
    """
    hints = typing.get_type_hints(cls)
    allowed = {f.name: hints[f.name] for f in fields(cls) if f.init and f.repr}
    given: dict[str, Any] = {}
    others: dict[str, str] = {}
    for item in filter(None, options.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise ConfigError(f"{item!r} in {cls.name}:{options} is no option: write option=value")
        if key in extra:
            others[key] = value
        elif key in allowed:
            given[key] = convert(f"{cls.name}:{key}", value, allowed[key])
        else:
            raise unknown(f"option of {cls.name}", key, [*allowed, *extra])
    return given, others


def convert(where: str, text: str, hint: Any) -> Any:
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
    if str in kinds and not choices:
        return text
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
