"""Data: raw samples by index, keyed augmentation, stratified splits.

`lessonplan.data.kinds` answers without importing torch; everything else loads on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lessonplan.data.augment import Augment
    from lessonplan.data.base import Source
    from lessonplan.data.bundle import Data, load
    from lessonplan.data.keyed import keyed_uniform
    from lessonplan.data.preprocess import Preprocessing
    from lessonplan.data.view import View
    from lessonplan.data.wav import Recording

__all__ = ["Augment", "Data", "Preprocessing", "Recording", "Source", "View", "keyed_uniform", "load"]

_HOMES = {
    "Augment": "augment",
    "Data": "bundle",
    "Preprocessing": "preprocess",
    "Recording": "wav",
    "Source": "base",
    "View": "view",
    "keyed_uniform": "keyed",
    "load": "bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
