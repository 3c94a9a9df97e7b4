"""Networks for small images, each built from one short spelling such as ``"tiny"`` or ``"wrn-28-10"``.

`check_model` and `model_names` answer without importing torch; everything else loads on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lessonplan.models.spec import check_model, model_names

if TYPE_CHECKING:
    from lessonplan.models.build import build_model, count_parameters
    from lessonplan.models.densenet import DenseNetBC
    from lessonplan.models.dla import DLA, SimpleDLA
    from lessonplan.models.fcnet import FCNet
    from lessonplan.models.lenet import LeNet
    from lessonplan.models.preact_resnet import PreActResNet
    from lessonplan.models.resnet import ResNet18
    from lessonplan.models.tiny import TinyResNet
    from lessonplan.models.vgg import VGG11
    from lessonplan.models.wide_resnet import WideResNet

__all__ = [
    "DLA",
    "VGG11",
    "DenseNetBC",
    "FCNet",
    "LeNet",
    "PreActResNet",
    "ResNet18",
    "SimpleDLA",
    "TinyResNet",
    "WideResNet",
    "build_model",
    "check_model",
    "count_parameters",
    "model_names",
]

_HOMES = {
    "DLA": "dla",
    "VGG11": "vgg",
    "DenseNetBC": "densenet",
    "FCNet": "fcnet",
    "LeNet": "lenet",
    "PreActResNet": "preact_resnet",
    "ResNet18": "resnet",
    "SimpleDLA": "dla",
    "TinyResNet": "tiny",
    "WideResNet": "wide_resnet",
    "build_model": "build",
    "count_parameters": "build",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
