"""Libraries that import torchvision, whose wheel from PyPI cannot be imported beside a CPU build of torch."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch

_MISSING = "operator torchvision::"
_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_beside_torchvision(library: str) -> Any:
    """Import a library, where torchvision's compiled operators are missing without them.

    torchvision's compiled part then cannot be loaded, and its Python part stops where it describes operators that
    are not there (two for boxes, which classifiers never call). With their schemas told it can be imported.

    Raises:
        ImportError, RuntimeError, OSError: as the import itself does.
    """
    try:
        return importlib.import_module(library)
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] in (library, "torchvision")]:
        del sys.modules[name]  # what a broken import left behind
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", _BOXES)
    return importlib.import_module(library)
