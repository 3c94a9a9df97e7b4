"""Batches on their way from the data to the network: what selection and ordering pass on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lessonplan.network.learner import Step
from lessonplan.network.passes import Passes
from lessonplan.network.ranks import ALONE, Ranks
from lessonplan.rows import rows_of


class Samples(Protocol):
    """Samples by position, for example a ``lessonplan.data.View``."""

    labels: Tensor
    num_classes: int

    device: torch.device

    @property
    def reads_ahead(self) -> bool:
        """Whether ``batches`` reads ahead, so that it is worth saying early what will be needed."""

    def __len__(self) -> int: ...

    def fetch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Samples ``(B, ...)`` and labels ``(B,)``; the same pixels for the same index and epoch."""

    def batches(self, index_batches: Iterable[Tensor], epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for many batches, perhaps read ahead."""


@dataclass
class Batch:
    """Samples that are trained on together.

    Attributes:
        indices: ``(B,)`` int64 positions in the training set, on the CPU.
        epochs: ``(B,)`` int64, which draw of the augmentation each of them is.
        weights: ``(B,)`` float32 factors of the losses, or None for ones.
        x: ``(B, ...)``, or None while not read.
        y: ``(B,)`` labels, or None while not read.
        logits: ``(B, C)`` with a graph, where a scoring pass can be the training pass; else None.
        passes: what the forward and backward pass behind ``logits`` cost, where it is more than B rows.
        step: what the update saw, where the look-ahead has made it already; else None.
        own: this rank's part, where other ranks read the others; else None.
    """

    indices: Tensor
    epochs: Tensor
    weights: Tensor | None = None
    x: Tensor | None = None
    y: Tensor | None = None
    logits: Tensor | None = None
    passes: Passes | None = None
    step: Step | None = None
    own: Batch | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, data: Samples) -> tuple[Tensor, Tensor]:
        """Samples and labels, fetched unless they are here; rows of several epochs each get their own pixels."""
        if self.x is None or self.y is None:
            self.x, self.y = fetch_epochs(data, self.indices, self.epochs)
        return self.x, self.y

    def rows(self, positions: Tensor) -> Batch:
        """Some of the samples, by position in the batch (on the CPU); without logits."""
        there = positions.to(self.y.device, non_blocking=True) if self.y is not None else positions
        return Batch(
            self.indices[positions],
            self.epochs[positions],
            self.weights[positions] if self.weights is not None else None,
            rows_of(self.x, there) if self.x is not None else None,
            self.y[there] if self.y is not None else None,
        )

    def part(self, ranks: Ranks) -> Batch:
        """This rank's samples; where it has none, it borrows the first one, so as to take part."""
        if self.own is not None:
            return self.own
        return self.rows(torch.arange(len(self))[ranks.taken(len(self))])

    @classmethod
    def joined(cls, batches: Sequence[Batch], data: Samples, ranks: Ranks = ALONE) -> Batch:
        """Several batches as one; pixels that are missing in some are read, but not those of other ranks.

        Without logits.
        """
        if len(batches) == 1:
            return batches[0]
        weights = None
        if any(batch.weights is not None for batch in batches):
            weights = torch.cat(
                [b.weights if b.weights is not None else torch.ones(len(b), dtype=torch.float32) for b in batches]
            )
        indices = torch.cat([batch.indices for batch in batches])
        epochs = torch.cat([batch.epochs for batch in batches])
        if not ranks.alone and any(batch.x is None for batch in batches):
            return cls(indices, epochs, weights)
        read = [batch.read(data) for batch in batches]
        return cls(
            indices,
            epochs,
            weights,
            torch.cat([x for x, _ in read]),
            torch.cat([y for _, y in read]),
        )

    def without_pixels(self) -> Batch:
        """The same samples by index alone, to be read again when they are needed."""
        return Batch(self.indices, self.epochs, self.weights)

    def state_dict(self) -> dict[str, Tensor | None]:
        """What is needed to make it again: indices, epochs, weights."""
        return {"indices": self.indices, "epochs": self.epochs, "weights": self.weights}

    @classmethod
    def from_state(cls, state: dict[str, Tensor | None]) -> Batch:
        """A batch from what ``state_dict`` gave."""
        indices, epochs = state["indices"], state["epochs"]
        assert indices is not None
        assert epochs is not None
        return cls(indices, epochs, state["weights"])


def fetch_epochs(data: Samples, indices: Tensor, epochs: Tensor) -> tuple[Tensor, Tensor]:
    """Fetch samples whose augmentations are of different epochs; one fetch for each epoch among them."""
    first = int(epochs[0]) if len(epochs) else 0
    if bool((epochs == first).all()):
        return data.fetch(indices, first)
    different = epochs.unique().tolist()
    parts = [(epochs == epoch).nonzero().squeeze(1) for epoch in different]
    fetched = [data.fetch(indices[rows], epoch) for rows, epoch in zip(parts, different, strict=True)]
    back = torch.cat(parts).argsort().to(data.device, non_blocking=True)
    return rows_of(torch.cat([x for x, _ in fetched]), back), torch.cat([y for _, y in fetched])[back]


class EpochReader:
    """The samples of an epoch in a given order, handed out piece by piece; where it stands can be stored.

    Args:
        data: where samples are read from.
        order: ``(n,)`` int64 positions in ``data``, in the order in which they are handed out.
        epoch: which draw of the augmentation.
        weights: ``(n,)`` factors of the losses, or None.
        position: how many have been handed out already.
        blocks: what is left of ``order`` in blocks, which worker processes read ahead; None fetches each piece
            when its samples are asked for.
        ranks: who reads which part of each block, where a block is a batch.
    """

    def __init__(
        self,
        data: Samples,
        order: Tensor,
        *,
        epoch: int,
        weights: Tensor | None = None,
        position: int = 0,
        blocks: Sequence[Tensor] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.data, self.order, self.epoch, self.weights = data, order, epoch, weights
        self.position, self._ranks = position, ranks
        self._blocks = deque(blocks) if blocks is not None else None
        self._read = data.batches(map(self._own, blocks), epoch=epoch) if blocks is not None else None

    def _own(self, block: Tensor) -> Tensor:
        """What this rank reads of a block."""
        return block if self._ranks.alone else block[self._ranks.taken(len(block))]

    @property
    def remaining(self) -> int:
        """How many have not been handed out."""
        return len(self.order) - self.position

    def take(self, size: int) -> Batch | None:
        """The next samples, ``size`` of them or what is left; None at the end.

        Where blocks are read ahead, whole blocks are handed out, as many as ``size`` needs.
        """
        size = min(size, self.remaining)
        if size == 0:
            return None
        read: list[tuple[Tensor, Tensor]] = []
        if self._blocks is not None and self._read is not None:
            needed, size = size, 0
            while size < needed:
                size += len(self._blocks.popleft())
                read.append(next(self._read))
        rows = slice(self.position, self.position + size)
        weights = self.weights[rows] if self.weights is not None else None
        batch = Batch(self.order[rows], torch.full((size,), self.epoch), weights)
        if read and not self._ranks.alone:
            batch.own = batch.part(self._ranks)
            ((batch.own.x, batch.own.y),) = read
        elif read:
            batch.x, batch.y = _joined([x for x, _ in read]), _joined([y for _, y in read])
        self.position += size
        return batch

    def close(self) -> None:
        """Let the worker processes go."""
        close = getattr(self._read, "close", None)
        if close is not None:
            close()


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def nearly_equal(remaining: int, size: int) -> int:
    """The size of the next batch, so that what remains is cut into as few nearly equal batches as it needs.

    >>> nearly_equal(10, 4), nearly_equal(6, 4), nearly_equal(3, 4)
    (4, 3, 3)
    """
    return math.ceil(remaining / math.ceil(remaining / size))
