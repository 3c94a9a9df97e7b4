"""A user's own network: from the name of its factory and a file of weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lessonplan.data import Data
from lessonplan.errors import ConfigError, DataError
from lessonplan.models import build_model
from lessonplan.network.untouched import seeded
from lessonplan.parts.own import load_own
from lessonplan.stored import read_tensors


def made(model: str, data: Data | None = None) -> nn.Module:
    """The network that ``"module:factory"``, ``"FILE.py:factory"`` or one of our names stands for.

    Raises:
        ConfigError: there is none.
    """
    if ":" not in model or model.startswith("timm:"):
        if data is None:
            raise ConfigError(f"--model {model!r}: the run's own network is found by itself; write module:factory")
        return build_model(model, shape=data.shape, num_classes=data.num_classes, seed=0)
    try:
        own = load_own(model)
    except ConfigError as error:
        raise ConfigError(f"--model {model}: {error}") from None
    factory, name = own.target, own.address
    with seeded(0):  # the user's function may draw from PyTorch's global generator
        network = factory if isinstance(factory, nn.Module) else factory() if callable(factory) else None
    if not isinstance(network, nn.Module):
        raise ConfigError(f"--model {model}: {name} gives a {type(network).__name__}, not a torch.nn.Module")
    return network


def load_weights(network: nn.Module, path: Path) -> None:
    """Read a safetensors file into a network.

    Raises:
        ConfigError: there is no such file, it is of another kind, or it does not fit.
    """
    if not path.is_file():
        raise ConfigError(f"--weights {path}: there is no such file")
    try:
        state = read_tensors(path, "give another file")
    except DataError as error:
        raise ConfigError(f"--weights {error}") from None
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(
            f"--weights {path} do not fit the network ({' '.join(str(error).split())[:300]})"
        ) from None
