"""The examples as modules."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> SimpleNamespace:
    """What an example defines, without running it."""
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / f"{name}.py")))
