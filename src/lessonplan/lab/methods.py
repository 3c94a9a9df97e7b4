"""What a comparison compares: named plans, with settings of their own where they need them."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from lessonplan.data import load
from lessonplan.errors import ConfigError, unknown
from lessonplan.mix.text import MIXES, NO_MIX
from lessonplan.plan import Plan
from lessonplan.select.control import MatchedRandom
from lessonplan.settings import Settings
from lessonplan.stored import read_yaml

_OF_ALL = {"budget", "data", "model", "seeds", *inspect.signature(load).parameters} - {"device"}
_PARTS = ("select", "order", "mix", "settings")
SOLVED = ("logreg", "ncm")
"""Heads on frozen features that are found without training, as methods."""


@dataclass
class Method:
    """A plan with a name.

    Args:
        name: shown in tables; unique in a comparison.
        plan: what happens to the samples.
        settings: settings of ``fit`` that differ from the comparison's.
    """

    name: str
    plan: Plan
    settings: dict[str, Any] = field(default_factory=dict)

    def fresh_plan(self) -> Plan:
        """A copy that no run has used."""
        return copy.deepcopy(self.plan)

    def controls(self, plan: Plan | None = None) -> list[MatchedRandom]:
        """The filters of its plan, or of a copy of it, that replay what another run kept."""
        select = (plan or self.plan).select
        parts = (
            [part for selection in select.selections() for part in selection.parts] if select is not None else []
        )
        return [part for part in parts if isinstance(part, MatchedRandom) and part.of is not None]

    def describe(self) -> str:
        """The plan in a few words, as a person writes it."""
        parts = [str(self.plan.mix)] if self.plan.mix is not None else []
        if self.plan.order is not None:
            parts.insert(0, f"order {self.plan.order}")
        if self.plan.select is not None:
            parts.insert(0, f"select {self.plan.select}")
        words = " + ".join(parts) or "no mixing"
        extra = ", ".join(f"{k}={v}" for k, v in self.settings.items())
        return f"{words} ({extra})" if extra else words


def read_methods(given: str | Path | Sequence[str | Method] | Mapping[str, Any]) -> list[Method]:
    """Methods from text, a YAML file, a list of texts, or a mapping from names to plans.

    Args:
        given: ``"erm,mixup,sum:k=4"``, with ``label=spec`` to name one (``best=cascade:k=8``,
            ``filter=select:accuracy``) and settings of its own (``ft=tune:all + lr:3e-4 + cascade:k=4``;
            ``probe=tune:head``, ``logreg`` and ``ncm`` put a head on frozen features); a path that ends in .yaml
            or .yml, with a mapping in it; or a mapping whose values are a plan, such a text, or a mapping with
            ``select``, ``order``, ``mix`` and ``settings``.

    Raises:
        ConfigError: a name is unknown or used twice, or nothing is given.

    >>> [m.name for m in read_methods("erm,sum:k=4,pairing=permute,best=cascade:k=8")]
    ['erm', 'sum:k=4,pairing=permute', 'best']
    """
    if isinstance(given, (str, Path)) and str(given).endswith((".yaml", ".yml")):
        given = _read_yaml(Path(given))
    if isinstance(given, (str, Path)):
        given = _split(str(given))
    if isinstance(given, Mapping):
        methods = [_from_value(str(name), value) for name, value in given.items()]
    else:
        methods = [item if isinstance(item, Method) else _from_text(item) for item in given]
    names = [method.name for method in methods]
    if not methods:
        raise ConfigError("no methods to compare: give for example erm,mixup,sum")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"method {twice!r} is given twice: name one of them, label=spec")
    return methods


def _split(text: str) -> list[str]:
    """Cut at commas, but keep the options of a method together with it."""
    if ";" in text:
        raise ConfigError(
            f"methods {text!r}: separate them by commas, not by semicolons (a path with one: in a YAML file)"
        )
    methods: list[str] = []
    for item in (part.strip() for part in text.split(",")):
        if methods and (_is_option(item) or _is_option_without(methods[-1], item)):
            methods[-1] += f",{item}"
        elif item:
            methods.append(item)
    return methods


def _is_option(item: str) -> bool:
    """Whether ``key=value`` belongs to the method before it; ``label=mixup`` is a method of its own."""
    key, equals, value = item.partition("=")
    head = re.split(r">>|\||\s\+\s", value)[0].strip().lstrip("(")
    return bool(equals) and ":" not in key + head and head not in (*MIXES, *NO_MIX, *SOLVED)


def _is_option_without(method: str, item: str) -> bool:
    """Whether ``patience=none`` is an option that the method before it has; ``plain=none`` is a method."""
    if item.partition("=")[2].strip() not in NO_MIX or ":" not in method:
        return False
    try:
        _from_text(f"{method},{item}")
    except ConfigError:
        return False
    return True


def _from_text(text: str) -> Method:
    label, equals, spec = text.partition("=")
    if not equals or ":" in label:
        label = spec = text
    return _read(label.strip(), spec)


def _read(label: str, spec: str) -> Method:
    """A method from what it does: settings and the parts of a plan, with " + " between them."""
    settings: dict[str, Any] = {}
    parts: list[str] = []
    for piece in re.split(r"\s\+\s", spec.strip()):
        name, colon, value = piece.strip().partition(":")
        field = name.strip().replace("-", "_")
        found: dict[str, Any] = {}
        if piece.strip() in SOLVED:
            found = {"tune": "head", "fit_head": piece.strip()}
        elif colon and field in Settings.model_fields:
            _check_blanks(piece.strip(), value)
            found = {field: _value(field, value.strip())}
        elif colon and field in _OF_ALL:
            raise ConfigError(
                f"method {label!r}: {name.strip()} is the same for all methods of a comparison: give it beside"
                f" them, as --{field.replace('_', '-')}"
            )
        else:
            _check_word(piece.strip(), label)
            parts.append(piece)
        for setting in found:
            if setting in settings:
                raise ConfigError(f"method {label!r} gives {setting} twice: leave one of them out")
        settings |= found
    Settings.make(**settings)
    return Method(label, Plan.parse(" + ".join(parts) or "none"), settings)


def _check_blanks(piece: str, value: str) -> None:
    """Raise a ``ConfigError`` where a setting goes on behind a plus sign that has no blanks around it."""
    for following in re.findall(r"\+([\w-]+)", value):
        if following.replace("-", "_") in (*Settings.model_fields, *_PARTS, *MIXES, *SOLVED):
            raise ConfigError(f"{piece!r}: write blanks around the plus sign, as in a + b")


def _check_word(word: str, label: str) -> None:
    """A lone word is a mix or a head; another one is told what it may have been meant for.

    Raises:
        ConfigError: it is neither.
    """
    if not re.fullmatch(r"[\w-]+", word) or word in (*MIXES, *NO_MIX):
        return
    from lessonplan.order.text import ORDERS
    from lessonplan.select.text import PARTS

    for part, names in (("select", PARTS), ("order", ORDERS)):
        if word in names:
            raise ConfigError(f"unknown method {word!r}: did you mean '{part}:{word}'?")
    if label.replace("-", "_") in Settings.model_fields:
        raise ConfigError(
            f"unknown method {word!r}: did you mean '{label}:{word}'? A setting is written with a colon"
        )
    raise unknown("method", word, [*MIXES, *NO_MIX, *SOLVED])


def _value(field: str, text: str) -> Any:
    """A setting's value from its text; what is a text by its type stays one, a module's name ``3`` too."""
    kinds = Settings.model_fields[field].annotation
    if str in (kinds, *get_args(kinds)):
        return None if text.lower() == "none" and type(None) in get_args(kinds) else text
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _from_value(name: str, value: Any) -> Method:
    if isinstance(value, Plan):
        return Method(name, value)
    if isinstance(value, str):
        return _read(name, value)
    if value is None or isinstance(value, Mapping):
        value = value or {}
        for key in value:
            if key not in _PARTS:
                raise unknown(f"part of method {name}", str(key), _PARTS)
        given = value.get("settings") or {}
        if not isinstance(given, Mapping):
            raise ConfigError(f"method {name!r} has settings: {given!r}: give names with values, such as lr: 0.1")
        settings = {str(key): setting for key, setting in given.items()}
        Settings.make(**settings)
        texts = {part: str(value.get(part) or "none") for part in ("select", "order", "mix")}
        return Method(name, Plan.from_texts(**texts), settings)
    raise ConfigError(f"method {name!r} is {value!r}: give a plan, its text, or select, order, mix, settings")


def _read_yaml(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise ConfigError(f"{path} does not exist: give a YAML file of named plans")
    content = read_yaml(path, "give a YAML file of named plans")
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} holds no mapping of names to plans")
    return content
