"""Networks of the user's own, by address: ``mypackage.nets:Net:width=8``, ``nets.py:make``."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import torch
from torch import nn

from lessonplan.errors import ConfigError, unknown
from lessonplan.network.untouched import asked
from lessonplan.parts.own import load_own
from lessonplan.text_options import convert, guess, read_pairs

_TOLD = ("num_classes", "in_channels", "image_size", "shape")


def build_own(address: str, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build a network of the user's own, and try it on two samples.

    Args:
        address: a class or function, options after another colon. It is told ``num_classes``, ``in_channels``,
            ``image_size`` (height, width) and ``shape``, as far as it names them.
        shape: of one input, ``(C, H, W)`` or ``(F,)``.
        num_classes: of outputs.

    Raises:
        ConfigError: an option that it does not take, an error of its own, something that is no network, or outputs
            that are no logits ``(N, num_classes)``.
    """
    own = load_own(address)
    told = {"num_classes": num_classes, "in_channels": shape[0], "image_size": shape[1:] or (1, 1), "shape": shape}
    takes = _parameters(own.target)
    given = {name: value for name, value in told.items() if name in takes}
    for name, text in read_pairs(own.address, own.options).items():
        if name not in takes or name in _TOLD:
            raise unknown(f"option of {own.address}", name, [key for key in takes if key not in _TOLD])
        hint = takes[name]
        given[name] = guess(text) if hint is None else convert(f"{own.address}:{name}", text, hint)
    try:
        model = own.target(**given)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{own.address} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{own.address} gives {type(model).__name__}: give one that gives a torch module")
    _check_outputs(own.address, model, shape, num_classes)
    return model


def _parameters(target: Any) -> dict[str, Any]:
    """What can be given by name, and its annotation or None."""
    try:
        hints = typing.get_type_hints(getattr(target, "__init__", target) if isinstance(target, type) else target)
    except (NameError, TypeError):  # annotations that cannot be read say nothing
        hints = {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(target).parameters.values()
    return {p.name: hints.get(p.name) for p in parameters if p.kind in kinds}


def _check_outputs(address: str, model: nn.Module, shape: tuple[int, ...], num_classes: int) -> None:
    if any(p.is_meta for p in model.parameters()):
        return
    try:
        with asked(model):
            outputs = model(torch.zeros(2, *shape))
    except Exception as error:
        raise ConfigError(
            f"{address} cannot take inputs of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if found != (2, num_classes) or not outputs.is_floating_point():
        raise ConfigError(
            f"{address} gives {found} for two inputs of shape {shape}: give logits (2, {num_classes}) in floating"
            " point"
        )
