"""Mixes in the worker processes of a DataLoader."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


class MixAll:
    """A collate function that mixes a batch with every mix of a list."""

    def __init__(self, mixes):
        self.mixes = mixes

    def __call__(self, samples):
        x, y = default_collate(samples)
        return [mix(x, y) for mix in self.mixes]


def epochs(mixes, seed, workers=2, count=2):
    """Two epochs of four batches with the same content, made by two workers."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 3, 6, 8, generator=g), torch.arange(6) % 5
    data = TensorDataset(x.repeat(4, 1, 1, 1), y.repeat(4))
    loader = DataLoader(
        data,
        batch_size=6,
        num_workers=workers,
        collate_fn=MixAll(mixes),
        generator=torch.Generator().manual_seed(seed),
        multiprocessing_context="fork" if workers else None,
    )
    return [[(a.clone(), b.clone()) for a, b in batch] for _ in range(count) for batch in loader]
