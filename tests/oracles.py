"""Other libraries that tests compare with."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from lessonplan.models.beside_torchvision import import_beside_torchvision


def oracle(module: str) -> Any:
    """A module of torchvision, or of a library that imports it; tests are skipped where it is not installed.

    ``pytest.importorskip`` cannot bring these in beside a CPU build of PyTorch.
    """
    library = module.partition(".")[0]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed", allow_module_level=True)
    return import_beside_torchvision(module)
