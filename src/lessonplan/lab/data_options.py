"""Options that a command or call hands on to ``lessonplan.data.load``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from lessonplan.data import load
from lessonplan.errors import ConfigError, unknown
from lessonplan.settings import Settings

_OBJECTS = ("callbacks", "loss", "optimizer")  # of ``fit``


def check_data_options(given: Iterable[str], by: Callable[..., Any]) -> None:
    """Refuse what ``load`` does not take.

    Args:
        given: names of options.
        by: the function that has got them beside arguments of its own.

    Raises:
        ConfigError: an option is a setting of training, an argument of ``fit``, or unknown.
    """
    own = {
        name for name, p in inspect.signature(by).parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD
    }
    allowed = set(inspect.signature(load).parameters) - {"spec", "seed", "device", "input"}
    trains = "settings" in own
    for name in given:
        if name in allowed:
            continue
        if trains and name in _OBJECTS:
            raise ConfigError(
                f"{by.__name__} takes no {name}=, since its runs begin in other processes, from what can be"
                " written down: name it in settings={...} (optimizer='adamw', loss='focal'), or train with lp.fit,"
                " which takes objects"
            )
        if trains and name in Settings.model_fields:
            raise ConfigError(f"{name} is a setting of training: give {by.__name__} settings={{{name!r}: ...}}")
        raise unknown(f"option of {by.__name__}", name, allowed | own)
