"""The random numbers of layers such as dropout: the same for every order at the same update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lessonplan.seeds import fold_seed


@contextmanager
def same_noise(device: torch.device, seed: int, depth: int) -> Iterator[None]:
    """Seed the global generators inside, and restore them afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(fold_seed(seed, "noise", depth))
        for one in devices:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(fold_seed(seed, "noise", depth))
        yield
