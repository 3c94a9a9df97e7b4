"""Options written as text: ``"k=4,patience=5"``, each read as its annotation says."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from lessonplan.errors import ConfigError, unknown


def read_options(
    cls: Any, options: str, extra: Sequence[str] = (), *, first: str | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of a dataclass that a text names, each as its annotation says.

    Args:
        cls: a dataclass with a ``name``; its fields that are arguments and shown by ``repr`` are its options.
        options: ``"option=value,option=value"``; lists are written with slashes.
        extra: options that are not the dataclass' own.
        first: the option whose value may stand first without its name.

    Returns:
        arguments of ``cls``, and the extra options as they were written.

    Raises:
        ConfigError: an option is unknown, or a value does not fit; the nearest name is offered.
    """
    hints = typing.get_type_hints(cls)
    allowed = {f.name: hints[f.name] for f in fields(cls) if f.init and f.repr}
    name = cls.name or cls.__name__
    pairs = read_pairs(name, options, first=first)
    others = {key: pairs.pop(key) for key in extra if key in pairs}
    return read_values(name, pairs, allowed, also=extra), others


def read_values(
    name: str, pairs: Mapping[str, str], allowed: Mapping[str, Any], also: Sequence[str] = ()
) -> dict[str, Any]:
    """Texts as the annotations of their options say.

    Args:
        name: whose options they are, for errors.
        pairs: texts by option.
        allowed: annotations by option.
        also: options to name among the known ones in an error.

    Raises:
        ConfigError: an option is unknown, or a value does not fit; the nearest name is offered.
    """
    for key in pairs:
        if key not in allowed:
            raise unknown(f"option of {name}", key, [*allowed, *also])
    return {key: convert(f"{name}:{key}", value, allowed[key]) for key, value in pairs.items()}


def read_pairs(name: str, options: str, *, first: str | None = None) -> dict[str, str]:
    """``"a=1,b=2"`` as texts by option.

    Args:
        name: whose options they are, for errors.
        options: the text.
        first: the option whose value may stand first without its name.

    Raises:
        ConfigError: an item is no ``option=value``, or an option is given twice.

    >>> read_pairs("topk", "128,largest=true", first="size")
    {'size': '128', 'largest': 'true'}
    """
    pairs: dict[str, str] = {}
    for place, item in enumerate(filter(None, (part.strip() for part in options.split(",")))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals and place == 0 and first is not None:
            key, value = first, key
        elif not equals:
            raise ConfigError(f"{item!r} in {name}:{options} is no option: write option=value")
        if key in pairs:
            raise ConfigError(f"{name}:{options} gives {key} twice: give it once")
        pairs[key] = value
    return pairs


def convert(where: str, text: str, hint: Any) -> Any:
    """Read a value as the option's annotation says; text that may be anything stays as it is."""
    choices = _literals(hint)
    if text in choices:
        return text
    kinds = _plain_types(hint)
    if text.lower() == "none" and type(None) in kinds:
        return None
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if int in kinds and re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if float in kinds and str not in kinds and re.fullmatch(r"\d+(\.\d*)?%", text):
        return float(text[:-1]) / 100
    for kind, read in _READERS.items():
        if kind in kinds:
            try:
                return read(text)
            except ValueError:
                pass
    if str in kinds:  # the class itself judges
        return text
    names = [f"'{c}'" for c in choices] + [_KIND_NAMES[kind] for kind in kinds if kind in _KIND_NAMES]
    raise ConfigError(f"{where}={text!r} cannot be used: give {' or '.join(names)}")


def guess(text: str) -> Any:
    """A value without an annotation: a number, true, false or none where it reads so, else the text.

    >>> guess("3"), guess("0.5"), guess("true"), guess("relu")
    (3, 0.5, True, 'relu')
    """
    return convert("", text, int | float | bool | str | None)


_READERS: dict[type, Any] = {
    float: float,
    list: lambda text: tuple(float(part) for part in text.split("/")),
    tuple: lambda text: tuple(part.strip() for part in text.split("/")),
}
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
