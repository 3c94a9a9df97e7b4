"""Weights from files, which are read as numbers and never run."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from lessonplan.errors import ConfigError, first_line, out_of_memory

_WRAPPED_IN = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "weights",
    "params",
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: safetensors, or a state dict that torch has saved.

    Raises:
        ConfigError: there is no such file, it holds no weights, or a pickle that would run code.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder without a finished run: give a file of weights, or a run's folder")
    if not path.is_file():
        raise ConfigError(f"{path} is not there: give a file of weights (safetensors, or a saved state dict)")
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise ConfigError(
                f"{path} holds more than tensors, and reading it would run code: save its state_dict() alone, or"
                " as safetensors"
            ) from None
        raise _no_weights(path, error) from None
    except Exception as error:  # whatever a damaged archive makes the readers raise
        if out_of_memory(error):
            raise
        raise _no_weights(path, error) from None
    state = _unwrapped(found)
    if not state:
        raise ConfigError(f"{path} holds a {type(found).__name__} without tensors: give a saved state dict")
    return state


def digest_of(state: Mapping[str, Tensor]) -> str:
    """Tells weights from others: names, types, shapes and content."""
    content = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return content.hexdigest()[:16]


def _unwrapped(found: Any) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        return {}
    for name in _WRAPPED_IN:
        inner = found.get(name)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            return _unwrapped(inner)
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _no_weights(path: Path, error: Exception) -> ConfigError:
    reason = first_line(error)
    return ConfigError(f"{path} cannot be read as weights ({reason}): give safetensors, or a saved state dict")
