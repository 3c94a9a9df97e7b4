"""What timm does to stored weights before it loads them into a network of its own."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping

from torch import Tensor, nn


def as_timm_reads(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Stored tensors under timm's names and in the network's sizes, as far as timm knows how.

    Each of its files of networks may have a function for that: it knows the names in the authors' own files, and
    resamples position embeddings and tables of relative positions to the network's size.

    Args:
        network: any; of others than timm's nothing is known.
        state: stored tensors by name.

    Returns:
        The tensors, or None where there is no such function, or where it does not know these weights.
    """
    home = type(network).__module__
    if not home.startswith("timm.models."):
        return None
    read = getattr(sys.modules[home], "checkpoint_filter_fn", None)
    if read is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of PyTorch, about timm's own code
            found = read(dict(state), network)
    except Exception:  # it was written for some files, and trips over others in its own ways
        return None
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}
