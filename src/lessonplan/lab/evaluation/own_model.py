"""A user's own network: from the name of its factory and a file of weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lessonplan.errors import ConfigError, DataError
from lessonplan.models import build_model
from lessonplan.models.factory import make_network
from lessonplan.network.untouched import seeded
from lessonplan.parts.own import load_own
from lessonplan.stored import read_tensors
from lessonplan.text_options import read_pairs


def made(model: str, shape: tuple[int, ...], num_classes: int, *, of_run: bool) -> nn.Module:
    """The network that ``"module:factory"``, ``"FILE.py:factory"`` or one of our names stands for.

    Args:
        model: its address or name.
        shape: of one input.
        num_classes: of outputs.
        of_run: whether a run's weights are meant for it.

    Raises:
        ConfigError: there is none.
    """
    if ":" not in model or model.startswith("timm:"):
        if of_run:
            raise ConfigError(f"--model {model!r}: the run's own network is found by itself; write module:factory")
        return build_model(model, shape=shape, num_classes=num_classes, seed=0)
    try:
        own = load_own(model)
    except ConfigError as error:
        raise ConfigError(f"--model {model}: {error}") from None
    if isinstance(own.target, nn.Module):
        return own.target
    if not callable(own.target):
        raise ConfigError(
            f"--model {model}: {own.address} is a {type(own.target).__name__}, not a torch.nn.Module"
        )
    options = read_pairs(own.address, own.options)
    with seeded(0):  # the user's function may draw from PyTorch's global generator
        return make_network(own.target, shape, num_classes, name=own.address, options=options)


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
