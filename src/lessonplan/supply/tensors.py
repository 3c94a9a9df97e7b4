"""Tensors, and data sets of PyTorch, as samples by position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from lessonplan.batch import Samples
from lessonplan.data.adapter import labels_of
from lessonplan.errors import ConfigError, first_line
from lessonplan.network.accelerator import same_device
from lessonplan.rows import rows_of


class TensorSamples:
    """Tensors as samples by position.

    Args:
        x: ``(N, ...)``, on the device of the network.
        y: ``(N,)`` labels of an integer type.
    """

    in_memory = True
    reads_ahead = False

    def __init__(self, x: Tensor, y: Tensor) -> None:
        if len(x) != len(y) or len(x) == 0:
            raise ConfigError(f"{len(x)} samples and {len(y)} labels: give as many of both, at least one")
        y = _as_indices(y)
        _check_labels(y, "tensors")
        self.x, self.y, self.labels = x, y, y.cpu()
        self.num_classes = int(self.labels.max()) + 1
        self.device = x.device

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Samples ``(B, ...)`` and labels ``(B,)``, the same in every epoch."""
        del epoch
        return rows_of(self.x, indices), rows_of(self.y, indices)

    def batches(self, index_batches: Iterable[Tensor], epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for many batches."""
        return (self.fetch(indices, epoch) for indices in index_batches)

    def raw(self, indices: Tensor) -> Tensor:
        """Samples on the CPU."""
        return self.x[indices.to(self.x.device)].cpu()


class DatasetSamples:
    """A map-style data set whose items are ``(x, y)`` as samples by position.

    What its random transforms do is drawn anew whenever a sample is read.

    Args:
        dataset: with ``__getitem__`` and ``__len__``.
        device: of the network.
        collate: what makes a batch ``(x, y)`` of items.
        workers: processes that read batches which are known ahead.
    """

    in_memory = False

    def __init__(
        self,
        dataset: Any,
        device: torch.device,
        collate: Callable[[list[Any]], Any] = default_collate,
        workers: int = 0,
    ) -> None:
        self.dataset, self.device, self.collate, self.workers = dataset, device, collate, workers
        if len(dataset) == 0:
            raise ConfigError(f"the {type(dataset).__name__} holds no samples: give at least one")
        self.labels = _as_indices(torch.as_tensor(np.asarray(labels_of(dataset))))
        _check_labels(self.labels, type(dataset).__name__)
        self.num_classes = int(self.labels.max()) + 1

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def reads_ahead(self) -> bool:
        """With worker processes."""
        return self.workers > 0

    def fetch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Samples ``(B, ...)`` and labels ``(B,)`` as the data set gives them now."""
        del epoch
        items = [self.dataset[i] for i in indices.tolist()]
        try:
            batch = self.collate(items)
        except TypeError as error:
            if self.collate is not default_collate:
                raise
            raise ConfigError(
                f"the {type(self.dataset).__name__} gives samples that are no tensors ({first_line(error)}): give"
                " lessonplan.data.load(dataset), or a DataLoader whose collate_fn makes (x, y) of them"
            ) from error
        return self._placed(batch)

    def batches(self, index_batches: Iterable[Tensor], epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for many batches, read ahead by the workers."""
        if not self.reads_ahead:
            return (self.fetch(indices, epoch) for indices in index_batches)
        reader: Iterable[Any] = DataLoader(
            self.dataset,
            batch_sampler=(indices.tolist() for indices in index_batches),
            num_workers=self.workers,
            collate_fn=self.collate,
            generator=torch.Generator().manual_seed(epoch),  # or it would draw from PyTorch's global one
        )
        return map(self._placed, reader)

    def _placed(self, batch: Any) -> tuple[Tensor, Tensor]:
        if not (
            isinstance(batch, (tuple, list)) and len(batch) == 2 and all(isinstance(b, Tensor) for b in batch)
        ):
            raise ConfigError(
                f"the {type(self.dataset).__name__} gives batches of type {type(batch).__name__}: selection and"
                " ordering need (x, y), two tensors"
            )
        x, y = batch
        return x.to(self.device, non_blocking=True), _as_indices(y).to(self.device, non_blocking=True)


Given: TypeAlias = "Samples | tuple[Tensor, Tensor] | Dataset[Any] | DataLoader[Any]"
"""What a loop may be given as samples."""


def as_samples(data: Given, place: torch.device | None = None) -> Samples:
    """Samples as they are; tensors ``(x, y)``, a data set or a DataLoader's data set as samples.

    Args:
        data: what is given. Of a DataLoader its data set, its workers and its ``collate_fn`` are used; batches are
            drawn here.
        place: where the network is, if that is known; tensors are moved there.

    Raises:
        ConfigError: samples are somewhere else, or cannot be asked for by position.
    """
    here = place or torch.device("cpu")
    if isinstance(data, DataLoader):
        _check_map_style(data.dataset)
        if not isinstance(data.sampler, (RandomSampler, SequentialSampler)):
            raise ConfigError(
                f"the DataLoader draws by a {type(data.sampler).__name__}, and here the plan draws: give its data"
                " set, loader.dataset"
            )
        inner = data.dataset
        if data.collate_fn is default_collate and hasattr(inner, "fetch"):
            return as_samples(inner, place)
        return DatasetSamples(inner, here, data.collate_fn, data.num_workers)
    if isinstance(data, TensorDataset):
        if len(data.tensors) != 2:
            raise ConfigError(f"a TensorDataset of {len(data.tensors)} tensors: give one of (x, y)")
        data = (data.tensors[0], data.tensors[1])
    if isinstance(data, (tuple, list)):
        if len(data) != 2 or not all(isinstance(part, Tensor) for part in data):
            raise ConfigError("data given as a tuple must be (x, y), two tensors")
        x, y = data
        return TensorSamples(x.to(place), y.to(place)) if place is not None else TensorSamples(x, y)
    if not hasattr(data, "fetch"):
        _check_map_style(data)
        return DatasetSamples(data, here)
    there: torch.device | None = getattr(data, "device", None)
    if place is not None and there is not None and not same_device(there, place):
        raise ConfigError(
            f"the samples are on {there} and the network on {place}: load them with device='{place}'"
        )
    return cast(Samples, data)


def _as_indices(y: Tensor) -> Tensor:
    """Class numbers as int64, which PyTorch takes for such; others as they are."""
    return y if y.is_floating_point() or y.is_complex() else y.long()


def _check_labels(y: Tensor, what: str) -> None:
    if y.ndim != 1 or y.is_floating_point() or int(y.min()) < 0:
        raise ConfigError(
            f"the {what} have labels of shape {tuple(y.shape)} and type {y.dtype}: selection and ordering need one"
            " class number, from 0 on, a sample"
        )


def _check_map_style(data: Any) -> None:
    if isinstance(data, IterableDataset) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise ConfigError(
            f"a {type(data).__name__} cannot be asked for samples by position, as selection and ordering need it:"
            " give (x, y), a Dataset with __getitem__ and __len__, or what lessonplan.data.load returned"
        )
