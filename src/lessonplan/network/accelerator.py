"""Devices other than the CPU, whichever there are: cuda, mps, xpu, or one of another make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError


def is_accelerator(device: torch.device) -> bool:
    """Whether a device works beside the host, with memory and random numbers of its own."""
    return device.type not in ("cpu", "meta")


def present() -> torch.device | None:
    """The machine's accelerator, or None."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def resolve_device(name: str) -> torch.device:
    """The device that a setting means; ``"auto"`` is the accelerator where there is one.

    Raises:
        ConfigError: there is no such device.
    """
    there = present()
    if name == "auto":
        return there if there is not None else torch.device("cpu")
    known = "cpu" if there is None else f"cpu or {there.type}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name!r} is unknown: give auto, {known}") from None
    if is_accelerator(device):
        if there is None or device.type != there.type:
            raise ConfigError(f"device={name!r}, but PyTorch sees no {device.type} device: give auto or {known}")
        count = torch.accelerator.device_count()
        if device.index is not None and device.index >= count:
            raise ConfigError(f"device={name!r}, but there are {count}: give {device.type}:0 to {count - 1}")
    return device


def device_of(model: nn.Module, default: Tensor | None = None) -> torch.device:
    """Where a network's parameters are; where ``default`` is (or the CPU), if it has none."""
    otherwise = default.device if default is not None else torch.device("cpu")
    return next((p.device for p in model.parameters()), otherwise)


def same_device(one: torch.device, other: torch.device) -> bool:
    """Whether both are one: ``cuda`` is the present one of several."""
    return _with_index(one) == _with_index(other)


def _with_index(device: torch.device) -> tuple[str, int]:
    if not is_accelerator(device):
        return device.type, 0
    return device.type, torch.accelerator.current_device_index() if device.index is None else device.index


def accelerators_of(devices: Iterable[torch.device]) -> list[torch.device]:
    """Those that are accelerators, each once."""
    return sorted({device for device in devices if is_accelerator(device)}, key=str)


def random_state(device: torch.device) -> Tensor:
    """The state of an accelerator's own generator."""
    state: Tensor = _module(device).get_rng_state(device)
    return state


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Put it back."""
    _module(device).set_rng_state(state, device)


def seed(device: torch.device, number: int) -> None:
    """Start an accelerator's own generator."""
    set_random_state(device, torch.Generator(device).manual_seed(number).get_state())


def synchronise(device: torch.device) -> None:
    """Wait until an accelerator has done what it was told; before a clock is read."""
    if is_accelerator(device):
        _module(device).synchronize()


def name_of(device: torch.device) -> str:
    """What a device calls itself."""
    if not is_accelerator(device):
        return device.type
    ask: Any = getattr(_module(device), "get_device_name", None)
    return str(ask(device)) if ask is not None else str(device)


def _module(device: torch.device) -> Any:
    return torch.get_device_module(device)
