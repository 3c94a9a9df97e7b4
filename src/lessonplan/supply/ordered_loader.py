"""An order in a training loop that names its network only after the first update; see ``lp.batches``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from lessonplan.batch import Batch, EpochReader, nearly_equal
from lessonplan.errors import ConfigError
from lessonplan.network.accelerator import device_of
from lessonplan.network.learner import Learner
from lessonplan.network.network import LossFunction, Network, soft_cross_entropy
from lessonplan.order.base import Orderer
from lessonplan.order.text import parse_order
from lessonplan.parts.part import Occasion
from lessonplan.parts.state import Stateful
from lessonplan.seeds import fold_seed
from lessonplan.supply.tensors import Given, as_samples


class OrderedLoader(Stateful):
    """Batches in an order that follows the network, for any loop; an iteration is an epoch::

        loader = OrderedLoader((x, y), "loss-delta:candidates=8,on=external", batch_size=128, validation=(vx, vy))
        for epoch in range(20):
            for x, y in loader:
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad(); loss.backward(); optimizer.step()
                loader.update(model, optimizer)

    Until the first ``update`` there is no network to ask: the very first batch comes as it comes.

    Args:
        data: tensors ``(x, y)``, samples by position (``lessonplan.data.load(...).train``), or a map-style
            ``Dataset`` of such pairs.
        order: an orderer or its text.
        batch_size: samples of a batch, 1 or more; an epoch is cut into nearly equal batches.
        seed: of all draws.
        validation: the external batch's source, given like ``data``.
        loss: what is minimised, ``(logits (N, C), target (N, C)) -> (N,)`` or scalar.

    Raises:
        ConfigError: a setting that cannot be used, or ``update`` was forgotten.

    >>> data = torch.arange(6.0).unsqueeze(1), torch.tensor([2, 0, 1, 2, 0, 1])
    >>> loader = OrderedLoader(data, "by-score:k=6,score=label,order=descending", batch_size=1)
    >>> [int(y) for x, y in loader]
    [2, 2, 1, 1, 0, 0]
    """

    STATE: ClassVar[tuple[str, ...]] = ("epoch", "_position", "_begun", "orderer")

    def __init__(
        self,
        data: Given,
        order: Orderer | str,
        *,
        batch_size: int,
        seed: int = 0,
        validation: Given | None = None,
        loss: LossFunction = soft_cross_entropy,
    ) -> None:
        orderer = parse_order(order) if isinstance(order, str) else order
        if orderer is None:
            raise ConfigError("order='none' leaves nothing to do: use a DataLoader")
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: give 1 or more")
        if orderer.warmup is not None and "%" in orderer.warmup:
            raise ConfigError(f"warmup={orderer.warmup!r}: a loader knows no budget; give '5ep' or '500 steps'")
        self.data = as_samples(data)
        held_out = as_samples(validation) if validation is not None else None
        self.orderer, self.batch_size, self.seed, self.loss = orderer, batch_size, seed, loss
        orderer.setup(Occasion(seed, self.data, held_out, self.data.num_classes))
        self.epoch = 0
        self._reader: EpochReader | None = None
        self._position: int | None = None  # within the epoch that has begun, or None between epochs
        self._known: tuple[nn.Module, torch.optim.Optimizer, torch.amp.GradScaler | None] | None = None
        self._begun = False

    def update(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """Say that an update was made, and by whom; after ``load_state_dict`` call it before the loop.

        Raises:
            ConfigError: the samples are not where the network is.
        """
        known = (model, optimizer, scaler)
        if self._known is None or any(a is not b for a, b in zip(known, self._known, strict=True)):
            self._known = known
            as_samples(self.data, device_of(model))
            self.orderer.attach(Learner(Network(model, self.loss), optimizer, scaler))

    def __len__(self) -> int:
        return math.ceil(len(self.data) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._position is None:
            self.orderer.start_epoch(self.epoch, 0.0, float(self.epoch))
            self._position = 0
        generator = torch.Generator().manual_seed(fold_seed(self.seed, "loader", self.epoch))
        order = torch.randperm(len(self.data), generator=generator)
        self._reader = EpochReader(self.data, order, epoch=self.epoch, position=self._position)
        upstream = self._upstream(self._reader)
        if self.orderer.needs_network() and self._known is None:
            if self._begun:
                raise ConfigError("the loader has not heard of a network: call update(model, optimizer) first")
            yield self._read(next(upstream))
        for batch in self._ordered(upstream):
            yield self._read(batch)
        self.epoch, self._position = self.epoch + 1, None

    def _ordered(self, upstream: Iterator[Batch]) -> Iterator[Batch]:
        if self.orderer.needs_network() and self._known is None:
            raise ConfigError("the loader has not heard of an update: call update(model, optimizer) in the loop")
        return (batch for batch in self.orderer.batches(upstream) if batch is not None)

    def _upstream(self, reader: EpochReader) -> Iterator[Batch]:
        while reader.remaining:
            batch = reader.take(nearly_equal(reader.remaining, self.batch_size))
            assert batch is not None
            self._position = reader.position
            yield batch

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        self._begun = True
        return batch.read(self.data)
