"""lessonplan: choose, order and mix what a network trains on.

>>> import lessonplan as lp
>>> plan = lp.Plan(mix=lp.mix.Cascade(k=4))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessonplan.lazy import importer
from lessonplan.version import __version__ as __version__

if TYPE_CHECKING:
    from lessonplan import data, evaluate, ideas, losses, mix, models, order, select
    from lessonplan.lab import advise, check_data, compare, reproduce, tune
    from lessonplan.plan import Plan
    from lessonplan.supply.loops import batches
    from lessonplan.train import Budget, Callback, Classifier, Run, find_lr, fit, load

__all__ = [
    "Budget",
    "Callback",
    "Classifier",
    "Plan",
    "Run",
    "advise",
    "batches",
    "check_data",
    "compare",
    "data",
    "evaluate",
    "find_lr",
    "fit",
    "ideas",
    "load",
    "losses",
    "mix",
    "models",
    "order",
    "reproduce",
    "select",
    "tune",
]

_HOMES = {
    "Budget": "lessonplan.train",
    "Callback": "lessonplan.train",
    "Classifier": "lessonplan.train",
    "Plan": "lessonplan.plan",
    "Run": "lessonplan.train",
    "advise": "lessonplan.lab",
    "batches": "lessonplan.supply.loops",
    "check_data": "lessonplan.lab",
    "compare": "lessonplan.lab",
    "find_lr": "lessonplan.train",
    "fit": "lessonplan.train",
    "load": "lessonplan.train",
    "reproduce": "lessonplan.lab",
    "tune": "lessonplan.lab",
}

__getattr__ = importer(__name__, {name: _HOMES.get(name, f"lessonplan.{name}:") for name in __all__})


def __dir__() -> list[str]:
    return __all__
