"""Options that a command or call hands on to ``lessonplan.data.load``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from lessonplan.data import load
from lessonplan.errors import ConfigError, unknown
from lessonplan.settings import Settings

_OWN = {"spec", "seed", "device", "input"}  # what the caller gives itself
_OBJECTS = ("callbacks", "loss", "optimizer")  # of ``fit``


def check_data_options(given: Iterable[str], by: str) -> None:
    """Refuse what ``load`` does not take.

    Args:
        given: names of options.
        by: the call that has got them.

    Raises:
        ConfigError: an option is a setting of training, an argument of ``fit``, or unknown.

    >>> check_data_options(["per_clas"], "compare")
    Traceback (most recent call last):
    lessonplan.errors.ConfigError: unknown option of compare 'per_clas': did you mean 'per_class'?
    """
    allowed = set(inspect.signature(load).parameters) - _OWN
    for name in given:
        if name in allowed:
            continue
        if name in _OBJECTS:
            raise ConfigError(
                f"{by} takes no {name}=, since its runs begin in other processes, from what can be written down:"
                " name it in settings={...} (optimizer='adamw', loss='focal'), or train with lp.fit, which takes"
                " objects"
            )
        if name in Settings.model_fields:
            raise ConfigError(f"{name} is a setting of training: give {by} settings={{{name!r}: ...}}")
        raise unknown(f"option of {by}", name, allowed.union(Settings.model_fields))
