"""Networks of the user's own, by address: ``mypackage.nets:Net:width=8``, ``nets.py:make``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.models.channels import suit_channels
from lessonplan.models.factory import make_network
from lessonplan.network.untouched import asked
from lessonplan.parts.own import load_own
from lessonplan.text_options import read_pairs


def build_own(address: str, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build a network of the user's own, and try it on two samples.

    Args:
        address: a class or function, options after another colon; what it is told, `make_network` says. A network
            for colours whose first convolution meets grey images is changed (``suit_channels``).
        shape: of one input, ``(C, H, W)`` or ``(F,)``.
        num_classes: of outputs.

    Raises:
        ConfigError: an option that it does not take, an error of its own, something that is no network, or outputs
            that are no logits ``(N, num_classes)``.
    """
    own = load_own(address)
    options = read_pairs(own.address, own.options)
    model = make_network(own.target, shape, num_classes, name=own.address, options=options)
    suit_channels(model, shape)
    _check_outputs(own.address, model, shape, num_classes)
    return model


def _check_outputs(address: str, model: nn.Module, shape: tuple[int, ...], num_classes: int) -> None:
    if any(p.is_meta for p in model.parameters()):
        return
    outputs = outputs_of(address, model, shape)
    found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if found != (2, num_classes) or not outputs.is_floating_point():
        raise ConfigError(
            f"{address} gives {found} for two inputs of shape {shape}: give logits (2, {num_classes}) in floating"
            " point"
        )


def outputs_of(name: str, model: nn.Module, shape: tuple[int, ...]) -> Any:
    """What a network gives for two inputs of zeros.

    Raises:
        ConfigError: it cannot take them.
    """
    try:
        with asked(model):
            return model(torch.zeros(2, *shape))
    except Exception as error:
        raise ConfigError(
            f"{name} cannot take inputs of shape {shape}: {type(error).__name__}: {error}"
        ) from error
