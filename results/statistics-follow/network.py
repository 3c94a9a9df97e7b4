"""A small network with batch normalisation: ``--model results/statistics-follow/network.py:make``."""

from __future__ import annotations

import math

from torch import nn


def make(shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Two hidden layers of 64 units, each normalised over the batch, for inputs of ``shape``."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), 64, bias=False),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64, bias=False),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )
