"""From a spelling and an input shape to a network, reproducibly."""

from __future__ import annotations

import importlib
import inspect
import typing
from typing import Any

import torch
from torch import nn

from lessonplan.errors import unknown
from lessonplan.models.own_model import build_own
from lessonplan.models.sizes import at_least_one
from lessonplan.models.spec import ModelSpec, check_shape, parse
from lessonplan.models.table import FAMILIES
from lessonplan.models.timm_adapter import build_timm
from lessonplan.models.transformers_adapter import build_transformers
from lessonplan.parts.own import load_own
from lessonplan.text_options import convert, read_pairs

_BUILDERS = {"timm": build_timm, "transformers": build_transformers}
_TOLD = ("in_channels", "num_classes", "image_size")


def build_model(
    spec: str, *, shape: tuple[int, ...], num_classes: int, seed: int | None = None, pretrained: bool = False
) -> nn.Module:
    """Build a network from its spelling.

    Args:
        spec: one of `lessonplan.models.model_names` (the numbers may be changed: ``"fcnet-N"``,
            ``"wrn-DEPTH-WIDEN"``, ``"preact-resnet-DEPTH"``, ``"densenet-bc-DEPTH-GROWTH"``; options after a
            colon: ``"wrn-16-1:norm=group,dropout=0.3"``), ``"timm:NAME"`` or ``"hf-hub:ORG/NAME"`` for any model
            of timm (extra ``lessonplan[timm]``), ``"transformers:NAME"`` for an image classifier of transformers,
            or a class or function of your own, ``"module:Class"`` or ``"FILE.py:Class"``, options after another
            colon.
        shape: shape of one input, ``(C, H, W)``; ``fcnet`` also takes ``(F,)``.
        num_classes: number of outputs, 1 or more.
        seed: the same seed gives the same weights; None draws a fresh one from the operating system. The
            global generators are left as they were.

        pretrained: with the weights that timm or transformers have for it, and a new head; what is not loaded is
            drawn by the seed.

    Returns:
        The network in training mode, float32, on the CPU whatever the default device is, so that a seed
        means the same weights everywhere (on ``meta`` inside ``torch.device("meta")``). Our own networks
        have ``stage_names``: the submodules behind which hidden representations can be mixed.

    Raises:
        ConfigError: unknown name, numbers, options or shape that are not allowed, or timm missing.

    >>> model = build_model("tiny", shape=(1, 8, 8), num_classes=10, seed=0)
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    >>> model.stage_names
    ('stage1', 'stage2', 'stage3')
    """
    model = parse(spec)
    check_shape(model, shape)
    at_least_one("num_classes", num_classes)
    if model.family == "own":
        load_own(model.name)  # before the seed, since a first import may draw random numbers
    device = "meta" if torch.get_default_device().type == "meta" else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        # torch.manual_seed would seed every GPU's generator too, which nothing here would restore
        if seed is None:
            torch.default_generator.seed()
        else:
            torch.default_generator.manual_seed(seed)
        return _construct(model, shape, num_classes, pretrained)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters; shared ones count once.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _construct(model: ModelSpec, shape: tuple[int, ...], classes: int, pretrained: bool) -> nn.Module:
    size = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
    if model.family in _BUILDERS:
        build = _BUILDERS[model.family]
        return build(model.name, in_channels=shape[0], num_classes=classes, image_size=size, pretrained=pretrained)
    if model.family == "own":
        return build_own(model.name, shape, classes)
    module, _, name = FAMILIES[model.family].home.partition(":")
    cls: type[nn.Module] = getattr(importlib.import_module(f"lessonplan.models.{module}"), name)
    takes = inspect.signature(cls).parameters
    told = {"in_channels": shape[0], "num_classes": classes, "image_size": size}
    given = {key: value for key, value in told.items() if key in takes}
    return cls(*model.numbers, **given, **_options(cls, model))


def _options(cls: type[nn.Module], model: ModelSpec) -> dict[str, Any]:
    """The options of a spelling, as the constructor's annotations say."""
    hints = typing.get_type_hints(cls.__init__)
    keyword = inspect.Parameter.KEYWORD_ONLY
    allowed = [
        p.name for p in inspect.signature(cls).parameters.values() if p.kind is keyword and p.name not in _TOLD
    ]
    pairs = read_pairs(model.family, model.options)
    for name in pairs:
        if name not in allowed:
            raise unknown(f"option of {model.family}", name, allowed)
    return {name: convert(f"{model.family}:{name}", text, hints[name]) for name, text in pairs.items()}
