"""The commands of the command line: their options as dataclasses, their work as calls of the library."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import tyro

from lessonplan.commands.advise import Advise
from lessonplan.commands.check import Check
from lessonplan.commands.compare import Compare
from lessonplan.commands.completion import Completion
from lessonplan.commands.doctor import Doctor
from lessonplan.commands.evaluate import Evaluate
from lessonplan.commands.explain_orders import ExplainOrders
from lessonplan.commands.export import Export
from lessonplan.commands.lr import Lr
from lessonplan.commands.order import Order
from lessonplan.commands.predict import Predict
from lessonplan.commands.preview import Preview
from lessonplan.commands.recipes import Recipes, Reproduce
from lessonplan.commands.report import Report
from lessonplan.commands.train import Train
from lessonplan.commands.tune import Tune
from lessonplan.settings import Settings

__all__ = ["COMMAND_TYPES", "option_names", "spelled"]

# Fields whose option could not be a field: beside the method run, or a word of Python.
_SPELLED_OTHERWISE = {"network": "run", "lowest": "from", "highest": "to"}

COMMAND_TYPES: dict[str, Any] = {
    "compare": Compare,
    "advise": Advise,
    "train": Train,
    "lr": Lr,
    "tune": Tune,
    "check": Check,
    "preview": Preview,
    "evaluate": Evaluate,
    "order": Order,
    "explain-orders": ExplainOrders,
    "predict": Predict,
    "export": Export,
    "recipes": Recipes,
    "reproduce": Reproduce,
    "report": Report,
    "doctor": Doctor,
    "completion": Completion,
}


def option_names(kind: Any) -> list[str]:
    """Every option of a command, as it is written."""
    return [name.replace("_", "-") for name in _names(kind)]


def spelled(field: str) -> str:
    """A field of a command as its option, without the dashes before it.

    >>> spelled("image_size"), spelled("lowest")
    ('image-size', 'from')
    """
    return _SPELLED_OTHERWISE.get(field, field).replace("_", "-")


def _names(kind: Any) -> Iterator[str]:
    types, marked = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    for item in dataclasses.fields(kind):
        if tyro.conf.Positional in getattr(marked[item.name], "__metadata__", ()):
            continue
        if isinstance(item.default, Settings):
            yield from _spellings({name: info.annotation for name, info in Settings.model_fields.items()})
        elif dataclasses.is_dataclass(item.default):
            yield from _spellings(get_type_hints(type(item.default)))
        else:
            yield from _spellings({spelled(item.name): types[item.name]})


def _spellings(types: Mapping[str, Any]) -> Iterator[str]:
    for name, kind in types.items():
        yield f"--{name}"
        if kind is bool:
            yield f"--no-{name}"
