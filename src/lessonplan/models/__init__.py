"""Networks for small images, each built from one short spelling such as ``"tiny"`` or ``"wrn-28-10"``.

`check_model` and `model_names` answer without importing torch; everything else loads on first use. The classes are
those that `lessonplan.models.table` names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lessonplan.models.spec import check_model, model_names
from lessonplan.models.table import FAMILIES

if TYPE_CHECKING:
    from lessonplan.models.build import build_model, count_parameters

_HOMES = {
    "build_model": "build",
    "count_parameters": "build",
    **{name: module for module, _, name in (family.home.partition(":") for family in FAMILIES.values())},
}

__all__ = ["build_model", "check_model", "count_parameters", "model_names"]
__all__ += sorted(set(_HOMES) - set(__all__))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
