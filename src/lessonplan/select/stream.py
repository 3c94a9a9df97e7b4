"""Selection in a loop of one's own: ``for x, y, w in batches(model, data, selection, batch_size=100)``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.batches import Batch, Samples, Step
from lessonplan.errors import ConfigError
from lessonplan.mix.network import LossFunction, Network, soft_cross_entropy
from lessonplan.select.when import Selectable, Selecting


class SelectedBatches:
    """An iterable of selected batches; it can be stored between any two of them and goes on from there.

    Attributes:
        epoch: the present one.
        supply: what hands out the batches; ``supply.tally`` says how many were accepted.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Samples,
        selection: Selectable,
        *,
        batch_size: int,
        epochs: int,
        loss: LossFunction,
        seed: int,
    ) -> None:
        from lessonplan.supply import Supply  # which knows selections itself

        self.network = Network(model, loss)
        self.data, self.batch_size, self.epochs = data, batch_size, epochs
        select = copy.deepcopy(Selecting.of(selection))  # its state belongs to this loop
        select.setup(len(data), data.num_classes)
        self.supply = Supply(data, seed=seed, network=self.network, select=select)
        self.epoch, self._in_epoch = 0, False
        self._last: Batch | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Samples ``(B, ...)``, labels ``(B,)`` and factors of their losses ``(B,)``."""
        while self.epoch < self.epochs:
            if not self._in_epoch:
                self.supply.start_epoch(self.epoch, self.batch_size)
                self._in_epoch = True
            self.supply.advance(self.epoch / self.epochs)
            with closing(self.supply.batches()) as supplied:
                for batch in supplied:
                    if batch is not None:
                        self._last = batch
                        x, y = batch.read(self.data)
                        weights = batch.weights if batch.weights is not None else torch.ones(len(batch))
                        yield x, y, weights.to(x.device)
            self.epoch, self._in_epoch = self.epoch + 1, False
            if self.supply.starved:
                return

    def observe(self, logits: Tensor) -> None:
        """Tell selections that remember (InfoBatch and its like) what the network said of the last batch.

        Args:
            logits: ``(B, C)``, before the update.
        """
        if self._last is None:
            raise ConfigError("observe was called before the first batch: call it after each update")
        _, y = self._last.read(self.data)
        losses = soft_cross_entropy(logits.detach().float(), nn.functional.one_hot(y, logits.shape[1]).float())
        self.supply.observe(self._last, Step(logits.detach().float(), losses), mixed=False)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as tensors and primitives."""
        return {"epoch": self.epoch, "in_epoch": self._in_epoch, "supply": self.supply.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        self.epoch, self._in_epoch = state["epoch"], state["in_epoch"]
        self.supply.load_state_dict(state["supply"])


def batches(
    model: nn.Module,
    data: Samples,
    selection: Selectable,
    *,
    batch_size: int = 100,
    epochs: int = 1,
    loss: LossFunction = soft_cross_entropy,
    seed: int = 0,
) -> SelectedBatches:
    """Selected batches for a loop of one's own.

    Args:
        model: from samples to logits ``(N, C)``; asked for scores as it is at that moment, left as it was.
        data: samples by position, for example ``lessonplan.data.load(...).train``.
        selection: filters and selectors, or ``Epochwise`` or ``Batchwise`` around them.
        batch_size: samples of an update, at least 1.
        epochs: passes over the raw data.
        loss: one loss a sample, ``(logits (N, C), target (N, C)) -> (N,)``.
        seed: of the order and of what the selection draws.

    Returns:
        an iterable of ``x, y, weights`` with ``state_dict``; multiply losses by ``weights``. Call its
        ``observe(logits)`` after each update where the selection remembers.

    >>> import lessonplan as lp
    >>> data = lp.data.load("digits", per_class=10).train
    >>> model = lp.models.build_model("fcnet-8", shape=(1, 8, 8), num_classes=10, seed=0)
    >>> [len(y) for x, y, w in batches(model, data, lp.select.AccuracyFilter(), batch_size=20)][0]
    20
    """
    if batch_size < 1 or epochs < 1:
        raise ConfigError(f"batch_size={batch_size}, epochs={epochs}: give 1 or more")
    return SelectedBatches(model, data, selection, batch_size=batch_size, epochs=epochs, loss=loss, seed=seed)
