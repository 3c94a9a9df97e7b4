"""Tensors as samples by position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from lessonplan.batch import Samples
from lessonplan.errors import ConfigError
from lessonplan.network.accelerator import same_device


class TensorSamples:
    """Tensors as samples by position.

    Args:
        x: ``(N, ...)``, on the device of the network.
        y: ``(N,)`` int64 labels.
    """

    in_memory = True
    reads_ahead = False

    def __init__(self, x: Tensor, y: Tensor) -> None:
        if len(x) != len(y) or len(x) == 0:
            raise ConfigError(f"{len(x)} samples and {len(y)} labels: give as many of both, at least one")
        self.x, self.y, self.labels = x, y, y.cpu()
        self.num_classes = int(self.labels.max()) + 1
        self.device = x.device

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Samples ``(B, ...)`` and labels ``(B,)``, the same in every epoch."""
        del epoch
        here = indices.to(self.x.device)
        return self.x[here], self.y[here]

    def batches(self, index_batches: Iterable[Tensor], epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for many batches."""
        return (self.fetch(indices, epoch) for indices in index_batches)

    def raw(self, indices: Tensor) -> Tensor:
        """Samples on the CPU."""
        return self.x[indices.to(self.x.device)].cpu()


def as_samples(data: Samples | tuple[Tensor, Tensor], place: torch.device | None = None) -> Samples:
    """Samples as they are; tensors ``(x, y)`` as samples.

    Args:
        data: what is given.
        place: where the network is, if that is known; tensors are moved there.

    Raises:
        ConfigError: samples are somewhere else.
    """
    if isinstance(data, tuple):
        x, y = data
        return TensorSamples(x.to(place), y.to(place)) if place is not None else TensorSamples(x, y)
    there: torch.device | None = getattr(data, "device", None)
    if place is not None and there is not None and not same_device(there, place):
        raise ConfigError(
            f"the samples are on {there} and the network on {place}: load them with device='{place}'"
        )
    return data
