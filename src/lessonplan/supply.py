"""Where an epoch's batches come from: candidates, then selection, then ordering."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lessonplan.batches import Batch, EpochReader, Samples, Step, nearly_equal
from lessonplan.mix.network import Network, Passes
from lessonplan.seeds import fold_seed
from lessonplan.select.base import Scored
from lessonplan.select.epochwise import RESAMPLED, Epochwise
from lessonplan.select.scoring import Scoring
from lessonplan.select.tally import Tally
from lessonplan.select.when import Selecting

if TYPE_CHECKING:
    from lessonplan.order.base import Orderer

HANDLED = "every sample is handled"
"""Why training ends where a selection keeps nothing for a whole epoch."""


class Spent(NamedTuple):
    """What it took to come by batches: candidates drawn, and passes through the network."""

    raw: int
    passes: Passes


class Supply:
    """Batches of an epoch, one epoch after another; where it stands can be stored between any two of them.

    Args:
        data: the training samples.
        seed: of the permutation of each epoch and of what a selection draws.
        network: what scores are asked of; not needed without a selection.
        select: which samples are trained on; None is all.
        order: in which order batches are trained on; None is as they come.
        reusable: whether a scoring pass could be the training pass: samples are trained on as they are.
    """

    def __init__(
        self,
        data: Samples,
        *,
        seed: int,
        network: Network | None = None,
        select: Selecting | None = None,
        order: Orderer | None = None,
        reusable: bool = False,
    ) -> None:
        self.data, self.seed, self.network = data, seed, network
        self.select, self.order = select, order
        self.tally = Tally()
        self.finished = False
        self._reusable = reusable and order is None
        self._generator = torch.Generator().manual_seed(fold_seed(seed, "selection"))
        self._epoch, self._size = 0, 1
        self._position = self._raw = self._raw_taken = self._scored_taken = self._asked = 0
        self._pulled = self._handed = 0

    # -- an epoch ------------------------------------------------------------------------------------

    def start_epoch(self, epoch: int, size: int) -> None:
        """Begin an epoch.

        Args:
            epoch: decides the permutation and the augmentation.
            size: samples drawn for an update.
        """
        self._epoch, self._size = epoch, size
        self._position = self._raw = self._raw_taken = self._scored_taken = self._asked = 0
        self._pulled = self._handed = 0
        self.finished, self.tally = False, Tally()
        if self.select is not None and self.select.epochwise is not None and self.select.epochwise.due(epoch):
            self.select.epochwise.restart()

    def advance(self, progress: float) -> None:
        """Say how much of the run is over, in [0, 1]."""
        if self.select is not None:
            for selection in self.select.selections():
                selection.advance(progress)

    def batches(self) -> Generator[Batch | None, None, None]:
        """What is left of the epoch; None where work was done that gave no batch yet."""
        with closing(self._selected()) as selected:
            if self.order is None:
                yield from selected
            else:
                for batch in self.order.batches(self._counted(selected)):
                    self._handed += len(batch) if batch is not None else 0
                    yield batch
        self.finished = True

    def _counted(self, selected: Iterator[Batch | None]) -> Iterator[Batch | None]:
        """The same batches, their samples counted: an ordering may hold many before it hands one out."""
        for batch in selected:
            self._pulled += len(batch) if batch is not None else 0
            yield batch

    def _selected(self) -> Generator[Batch | None, None, None]:
        epochwise = self.select.epochwise if self.select is not None else None
        if epochwise is not None and epochwise.kept is None:
            assert self.network is not None
            scoring = epochwise.score(self.data, self.network, self._epoch, self._generator, self.tally)
            with closing(scoring):
                for _ in scoring:
                    yield None
            self._count_kept(epochwise)
        order, weights = self._order()
        epoch = self._epoch + (RESAMPLED if epochwise is not None and epochwise.resample else 0)
        self._count_raw(self._position, len(order))
        reader = EpochReader(
            self.data,
            order,
            epoch=epoch,
            weights=weights,
            position=self._position,
            blocks=self._blocks(order[self._position :]) if self.data.reads_ahead else None,
        )
        try:
            for batch in self._from(reader):
                self._position = reader.position
                self._count_raw(reader.position, len(order))
                yield batch
        finally:
            reader.close()
        self._position = reader.position
        self._count_raw(reader.position, len(order))

    def _from(self, reader: EpochReader) -> Iterator[Batch | None]:
        if self.select is not None and self.select.batchwise is not None:
            assert self.network is not None
            yield from self.select.batchwise.batches(
                reader, self.network, self._size, self._generator, self.tally, reusable=self._reusable
            )
            return
        while reader.remaining:
            batch = reader.take(nearly_equal(reader.remaining, self._size))
            self.tally.updates += 1
            self.tally.trained += len(batch) if batch is not None else 0
            yield batch

    def _order(self) -> tuple[Tensor, Tensor | None]:
        """What the epoch goes through, in a random order keyed by seed and epoch."""
        generator = torch.Generator().manual_seed(fold_seed(self.seed, "order", self._epoch))
        epochwise = self.select.epochwise if self.select is not None else None
        if epochwise is None or epochwise.kept is None:
            return torch.randperm(len(self.data), generator=generator), None
        order = torch.randperm(len(epochwise.kept), generator=generator)
        weights = epochwise.weights
        return epochwise.kept[order], weights[order] if weights is not None else None

    def _blocks(self, left: Tensor) -> list[Tensor]:
        if len(left) == 0:
            return []
        size = self._size
        if self.select is not None and self.select.batchwise is not None:
            size = max(1, size // 4)  # raw batches differ in size: they are put together of small blocks
        return list(left.tensor_split(-(-len(left) // size)))

    # -- what it cost --------------------------------------------------------------------------------

    def _count_kept(self, epochwise: Epochwise) -> None:
        """What was scored are the candidates, unless these are still to be selected batchwise."""
        if self.select is not None and self.select.batchwise is None and epochwise.kept is not None:
            self.tally.raw_batches += 1
            self.tally.candidates += len(self.data)
            self.tally.accepted += len(epochwise.kept)

    def _count_raw(self, position: int, kept: int) -> None:
        """An epoch is one pass over the raw data, however few of them an epochwise selection has kept."""
        self._raw = len(self.data) * position // kept if kept else len(self.data)

    def spent(self) -> Spent:
        """What has been drawn and computed since the last call."""
        drawn = self._raw
        if self.order is not None and not self.finished and self._pulled:
            # What waits to be ordered has not been gone through: a budget in epochs would end too early.
            drawn = max(self._raw_taken, min(drawn, drawn * self._handed // self._pulled))
        raw, self._raw_taken = drawn - self._raw_taken, drawn
        scored = self.tally.scored + self._asked - self._scored_taken
        self._scored_taken += scored
        passes = Passes.forward(scored)
        return Spent(raw, passes.plus(self.order.take_passes()) if self.order is not None else passes)

    @property
    def complete(self) -> bool:
        """Whether the epoch is over."""
        plain = self.select is None and self.order is None
        return self.finished or (plain and self._position == len(self.data))

    @property
    def starved(self) -> bool:
        """Whether a whole epoch has been gone through and nothing was kept."""
        return self.finished and self.select is not None and self.tally.accepted == 0 and self.tally.trained == 0

    # -- what is learned from training ---------------------------------------------------------------

    def observe(self, batch: Batch, step: Step, *, mixed: bool) -> None:
        """Tell selection and ordering what an update saw.

        Args:
            batch: the samples.
            step: logits and losses before the update.
            mixed: whether they belong to mixed samples; then what a selection has to know is asked anew.
        """
        if self.select is not None and self.select.remembers and self.network is not None:
            x, y = batch.read(self.data)
            logits, losses = step.logits.detach(), step.losses.detach()
            if mixed or losses.ndim == 0:
                logits, losses = Scoring()(self.network, x, y)
                self._asked += len(batch)
            scored = Scored(batch.indices, y, logits, losses)
            for selection in self.select.selections():
                selection.observe(scored)
        if self.order is not None:
            self.order.observe(batch, step)

    # -- state ---------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """The epoch in numbers, for ``metrics.jsonl``."""
        record: dict[str, Any] = {}
        if self.select is not None:
            record["select"] = self.tally.record()
        if self.order is not None:
            record["order"] = self.order.describe()
        return record

    _PLAIN = (
        "finished", "_epoch", "_size", "_position", "_raw", "_raw_taken", "_scored_taken", "_asked", "_pulled",
        "_handed",
    )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as tensors and primitives."""
        return {
            **{name: getattr(self, name) for name in self._PLAIN},
            "tally": self.tally.state_dict(),
            "generator": self._generator.get_state(),
            "select": self.select.state_dict() if self.select is not None else None,
            "order": self.order.state_dict() if self.order is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        for name in self._PLAIN:
            setattr(self, name, state[name])
        self.tally.load_state_dict(state["tally"])
        self._generator.set_state(state["generator"])
        if self.select is not None:
            self.select.load_state_dict(state["select"])
        if self.order is not None:
            self.order.load_state_dict(state["order"])
