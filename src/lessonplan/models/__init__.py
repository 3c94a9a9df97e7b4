"""Networks for small images, each built from one short spelling such as ``"tiny"`` or ``"wrn-28-10"``.

`check_model` and `model_names` answer without importing torch; everything else loads on first use. The classes are
those that `lessonplan.models.table` names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessonplan.lazy import importer
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

__getattr__ = importer(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})


def __dir__() -> list[str]:
    return sorted(__all__)
