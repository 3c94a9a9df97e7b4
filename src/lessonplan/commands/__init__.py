"""The commands of the command line: their options as dataclasses, their work as calls of the library."""

from __future__ import annotations

import dataclasses
from typing import Any

from lessonplan.commands.check import Check
from lessonplan.commands.common import DataOptions
from lessonplan.commands.compare import Compare
from lessonplan.commands.evaluate import Evaluate
from lessonplan.commands.order import Order
from lessonplan.commands.predict import Predict
from lessonplan.commands.preview import Preview
from lessonplan.commands.recipes import Recipes, Reproduce
from lessonplan.commands.report import Report
from lessonplan.commands.train import Train
from lessonplan.settings import Settings

__all__ = ["COMMAND_TYPES", "option_names"]

_SPELLED_OTHERWISE = {"network": "run"}  # fields whose option could not be a field beside the method run

COMMAND_TYPES: dict[str, Any] = {
    "compare": Compare,
    "train": Train,
    "check": Check,
    "preview": Preview,
    "evaluate": Evaluate,
    "order": Order,
    "predict": Predict,
    "recipes": Recipes,
    "reproduce": Reproduce,
    "report": Report,
}


def option_names(kind: Any) -> list[str]:
    """Every option of a command, as it is written."""
    names: list[str] = []
    for item in dataclasses.fields(kind):
        if item.name == "source":
            names += [f"--{f.name}" for f in dataclasses.fields(DataOptions)]
        elif item.name == "settings":
            for name, info in Settings.model_fields.items():
                names += [f"--{name}", *([f"--no-{name}"] if info.annotation is bool else [])]
        else:
            names.append(f"--{_SPELLED_OTHERWISE.get(item.name, item.name)}")
    return [name.replace("_", "-") for name in names]
