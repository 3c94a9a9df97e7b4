"""Data: raw samples by index, keyed augmentation, stratified splits.

`lessonplan.data.kinds` answers without importing torch; everything else loads on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessonplan.lazy import importer

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

__getattr__ = importer(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})


def __dir__() -> list[str]:
    return sorted(__all__)
