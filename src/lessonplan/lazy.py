"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def importer(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__``: PyTorch alone takes a second, and what lives above may import the package.

    Args:
        package: its ``__name__``.
        homes: for each name the module it lives in, ``"module:name"`` where it has another name there, and
            ``"module:"`` for the module itself.
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, colon, attribute = homes[name].partition(":")
        found = importlib.import_module(module)
        value = getattr(found, attribute or name) if attribute or not colon else found
        setattr(sys.modules[package], name, value)  # the next access does not come here
        return value

    return __getattr__
