"""The weights that a finished run keeps: written once, and taken back only if they are still those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, DataError
from lessonplan.files import write_atomically
from lessonplan.pretrained.files import digest_of
from lessonplan.stored import read_tensors

FILE = "weights.safetensors"


def weights_digest(network: nn.Module) -> str:
    """What ``result.json`` tells a network's weights from others by."""
    return digest_of(_tensors(network))


def save_trained(network: nn.Module, folder: Path) -> None:
    """Write the weights of a run.

    Raises:
        DataError: the disk refuses them.
    """
    # Copies, because the format refuses weights that share memory.
    state = {name: tensor.cpu().contiguous().clone() for name, tensor in _tensors(network).items()}
    write_atomically(folder / FILE, safetensors.torch.save(state))


def load_trained(network: nn.Module, folder: Path, result: dict[str, Any] | None) -> None:
    """Put a finished run's weights into its network.

    Args:
        network: of the run's architecture.
        folder: of the run.
        result: what its ``result.json`` holds, or None where there is none.

    Raises:
        ConfigError: they are missing, or fit another network. DataError: they are damaged, or not those that the
            run ended with.
    """
    file = folder / FILE
    if not file.exists():
        raise ConfigError(f"{file} is missing beside a finished result: give another folder to train again")
    state = read_tensors(file)
    own = _tensors(network)
    for name in own.keys() & state.keys():
        if own[name].shape == state[name].shape and own[name].dtype != state[name].dtype:
            raise DataError(f"{file} holds {name} as {state[name].dtype}, not {own[name].dtype}: put it back")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(
            f"the weights in {folder} do not fit this network ({' '.join(str(error).split())[:300]})"
        ) from None
    kept = (result or {}).get("weights")
    if kept is not None and kept != digest_of(state):
        raise DataError(
            f"{file} was changed after the run had ended, and its results are of other weights: put it back"
        )
    parameters = dict(network.named_parameters())
    broken = [name for name, value in parameters.items() if not torch.isfinite(value).all()]
    if broken and kept is None:  # of a run from before digests were kept
        raise DataError(
            f"{file} holds NaN or infinite values ({', '.join(broken[:3])}): put it back, or train again"
        )


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
