"""Where an epoch's batches come from: candidates, then selection, then ordering."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lessonplan.batch import Batch, EpochReader, Samples, nearly_equal
from lessonplan.mix.base import Mix
from lessonplan.mix.unmixed import Unmixed
from lessonplan.network.learner import Learner, Step, soft
from lessonplan.network.network import Network
from lessonplan.network.passes import Passes
from lessonplan.order.base import Orderer
from lessonplan.order.unordered import Unordered
from lessonplan.parts.part import Occasion
from lessonplan.parts.state import Stateful
from lessonplan.seeds import fold_seed
from lessonplan.select.asking import Scoring
from lessonplan.select.base import Scored
from lessonplan.select.epochwise import Epochwise
from lessonplan.select.everything import Everything
from lessonplan.select.stages import SelectionStages
from lessonplan.select.tally import Tally

HANDLED = "every sample is handled"
"""Why training ends where a selection keeps nothing for a whole epoch."""


class Supplied(NamedTuple):
    """What it took to come by batches: candidates drawn, and passes through the network."""

    raw: int
    passes: Passes


class Mixed(NamedTuple):
    """A batch as it goes through the network.

    Attributes:
        x: ``(M, ...)``.
        target: ``(M,)`` labels where nothing is mixed, else ``(M, C)`` soft targets.
        weights: ``(M,)`` float32 factors of the losses, or None for ones.
    """

    x: Tensor
    target: Tensor
    weights: Tensor | None


@dataclass
class Account:
    """What an epoch has used, and how much of it was told already (``take``).

    Attributes:
        drawn: raw samples gone through.
        asked: samples forwarded for what a selection remembers, beside what the tally counts.
        pulled: samples that an order has taken in.
        handed: samples that it has handed out.
        drawn_taken, scored_taken: what of the drawn and the scored was told.
    """

    drawn: int = 0
    asked: int = 0
    pulled: int = 0
    handed: int = 0
    drawn_taken: int = 0
    scored_taken: int = 0

    def take(self, tally: Tally, *, waits: bool) -> tuple[int, int]:
        """Samples drawn and samples scored since the last call.

        Args:
            tally: of the epoch.
            waits: whether an order may hold batches back. They have not been gone through: a budget in epochs
                would end too early.
        """
        drawn = self.drawn
        if waits and self.pulled:
            drawn = max(self.drawn_taken, min(drawn, drawn * self.handed // self.pulled))
        new, self.drawn_taken = drawn - self.drawn_taken, drawn
        scored = tally.scored + self.asked - self.scored_taken
        self.scored_taken += scored
        return new, scored


class Supply(Stateful):
    """Batches of an epoch, one epoch after another; where it stands can be stored between any two of them.

    Args:
        data: the training samples.
        seed: of the permutation of each epoch and of what a selection draws.
        network: what scores are asked of; not needed without a selection.
        select: which samples are trained on; None is all.
        order: in which order batches are trained on; None is as they come.
        mix: how they are mixed; None is not.
        heeds_logits: whether the loop takes ``Batch.logits`` and ``Batch.step`` for passes and updates that were
            made already.
        linear: whether the loss is linear in the target, so that factors of losses can become part of it where a
            mix blends samples; otherwise they stay factors, blended alike.
    """

    # Keys are those of older runs, whose states are read.
    STATE: ClassVar[tuple[str, ...]] = (
        "finished", "_epoch=_epoch", "_size=_size", "_position=_position", "generator=_generator",
        "select", "order", "tally",
        "_raw=account.drawn", "_raw_taken=account.drawn_taken", "_scored_taken=account.scored_taken",
        "_asked=account.asked", "_pulled=account.pulled", "_handed=account.handed",
    )  # fmt: skip

    def __init__(
        self,
        data: Samples,
        *,
        seed: int,
        network: Network | None = None,
        select: SelectionStages | None = None,
        order: Orderer | None = None,
        mix: Mix | None = None,
        heeds_logits: bool = False,
        linear: bool = False,
    ) -> None:
        self.data, self.seed, self.network = data, seed, network
        self.select = select if select is not None else Everything()
        self.order = order if order is not None else Unordered()
        self.mix = mix if mix is not None else Unmixed()
        self.tally, self.account = Tally(), Account()
        self.finished = False
        self._heeds_logits, self._linear = heeds_logits, linear
        self._reusable = heeds_logits and not self.mix.changes and not self.order.holds
        self._generator = torch.Generator().manual_seed(fold_seed(seed, "selection"))
        self._epoch, self._size, self._position = 0, 1, 0

    def setup(self, occasion: Occasion) -> None:
        """Tell the parts of the run that they are for."""
        final = self._heeds_logits and not self.mix.changes
        occasion = dataclasses.replace(occasion, final_updates=final)
        for part in (self.select, self.order, self.mix):
            part.setup(occasion)

    def attach(self, learner: Learner) -> None:
        """Give the parts the network, its loss and its optimizer."""
        self.network = learner.network
        self.order.attach(learner)
        self.mix.attach(learner.network)

    # -- an epoch ------------------------------------------------------------------------------------

    def start_epoch(self, epoch: int, batch_size: int, *, progress: float = 0.0, epochs: float = 0.0) -> bool:
        """Begin an epoch.

        Args:
            epoch: decides the permutation and the augmentation.
            batch_size: of an update; a mix may draw more for it.
            progress: how much of the run is over, in [0, 1].
            epochs: passes over the raw data so far.

        Returns:
            whether the mix moved on to a new stage.
        """
        switched = self.mix.advance(progress)
        # The number drawn is fixed for the epoch, so that read-ahead and resume see the same batches.
        self._epoch, self._size, self._position = epoch, self.mix.draws(batch_size), 0
        self.finished, self.tally, self.account = False, Tally(), Account()
        if self.select.epochwise is not None and self.select.epochwise.due(epoch):
            self.select.epochwise.restart()
        self.order.start_epoch(epoch, progress, epochs)
        return switched

    def advance(self, progress: float) -> None:
        """Say how much of the run is over, in [0, 1], between two batches."""
        self.mix.advance(progress, epoch_start=False)
        self.select.advance(progress)

    def batches(self) -> Generator[Batch | None, None, None]:
        """What is left of the epoch; None where work was done that gave no batch yet."""
        with closing(self._selected()) as selected:
            for batch in self.order.batches(self._counted(selected)):
                self.account.handed += len(batch) if batch is not None else 0
                yield batch
        self.finished = True

    def mixed(self, batch: Batch) -> Mixed:
        """A batch as it goes through the network, with factors of its losses.

        Where samples are blended, so are their factors. A loss that is linear in the target (cross-entropy) has
        them as part of soft targets, each partner's part its own; others get targets whose rows sum to 1, and
        factors.
        """
        x, y = batch.read(self.data)
        if not self.mix.changes:
            return Mixed(x, y, batch.weights)
        if batch.weights is not None:
            y = soft(y, self.data.num_classes) * batch.weights.to(y.device)[:, None]
        x, target = self.mix(x, y)
        if batch.weights is None or self._linear:
            return Mixed(x, target, None)
        factors = target.sum(1)
        return Mixed(x, target / factors.clamp(min=1e-12)[:, None], factors)

    def _counted(self, selected: Iterator[Batch | None]) -> Iterator[Batch | None]:
        """The same batches, their samples counted: an ordering may hold many before it hands one out."""
        for batch in selected:
            self.account.pulled += len(batch) if batch is not None else 0
            yield batch

    def _selected(self) -> Generator[Batch | None, None, None]:
        epochwise = self.select.epochwise
        if epochwise is not None and epochwise.kept is None:
            assert self.network is not None
            scoring = epochwise.score(self.data, self.network, self._epoch, self._generator, self.tally)
            with closing(scoring):
                for _ in scoring:
                    yield None
            self._count_kept(epochwise)
        permutation, weights = self._drawn()
        epoch = epochwise.augmentation_epoch(self._epoch) if epochwise is not None else self._epoch
        self._count_raw(self._position, len(permutation))
        reader = EpochReader(
            self.data,
            permutation,
            epoch=epoch,
            weights=weights,
            position=self._position,
            blocks=self._blocks(permutation[self._position :]) if self.data.reads_ahead else None,
        )
        try:
            for batch in self._from(reader):
                self._position = reader.position
                self._count_raw(reader.position, len(permutation))
                yield batch
        finally:
            reader.close()
        self._position = reader.position
        self._count_raw(reader.position, len(permutation))

    def _from(self, reader: EpochReader) -> Iterator[Batch | None]:
        if self.select.batchwise is not None:
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

    def _drawn(self) -> tuple[Tensor, Tensor | None]:
        """What the epoch goes through, in a random order keyed by seed and epoch."""
        generator = torch.Generator().manual_seed(fold_seed(self.seed, "order", self._epoch))
        epochwise = self.select.epochwise
        if epochwise is None or epochwise.kept is None:
            return torch.randperm(len(self.data), generator=generator), None
        permutation = torch.randperm(len(epochwise.kept), generator=generator)
        weights = epochwise.weights
        return epochwise.kept[permutation], weights[permutation] if weights is not None else None

    def _blocks(self, left: Tensor) -> list[Tensor]:
        if len(left) == 0:
            return []
        size = self._size
        if self.select.batchwise is not None:
            size = max(1, size // 4)  # raw batches differ in size: they are put together of small blocks
        return list(left.tensor_split(-(-len(left) // size)))

    # -- what it cost --------------------------------------------------------------------------------

    def _count_kept(self, epochwise: Epochwise) -> None:
        """What was scored are the candidates, unless these are still to be selected batchwise."""
        if self.select.batchwise is None and epochwise.kept is not None:
            self.tally.raw_batches += 1
            self.tally.candidates += len(self.data)
            self.tally.accepted += len(epochwise.kept)

    def _count_raw(self, position: int, kept: int) -> None:
        """An epoch is one pass over the raw data, however few of them an epochwise selection has kept."""
        self.account.drawn = len(self.data) * position // kept if kept else len(self.data)

    def spent(self) -> Supplied:
        """What has been drawn and computed since the last call."""
        raw, scored = self.account.take(self.tally, waits=self.order.holds and not self.finished)
        passes = Passes.forward(scored).plus(self.order.take_passes()).plus(self.mix.take_passes())
        return Supplied(raw, passes)

    @property
    def complete(self) -> bool:
        """Whether the epoch is over."""
        plain = isinstance(self.select, Everything) and not self.order.holds
        return self.finished or (plain and self._position == len(self.data))

    @property
    def starved(self) -> bool:
        """Whether a whole epoch has been gone through and nothing was kept."""
        selects = not isinstance(self.select, Everything)
        return self.finished and selects and self.tally.accepted == 0 and self.tally.trained == 0

    # -- what is learned from training ---------------------------------------------------------------

    def observe(self, batch: Batch, step: Step) -> None:
        """Tell selection and ordering what an update saw.

        Args:
            batch: the samples.
            step: logits and losses before the update; of mixed samples where there is a mix, and then what a
                selection has to know is asked anew.
        """
        if self.select.remembers and self.network is not None:
            x, y = batch.read(self.data)
            logits, losses = step.logits.detach(), step.losses.detach()
            if self.mix.changes or losses.ndim == 0:
                logits, losses = Scoring()(self.network, x, y)
                self.account.asked += len(batch)
            self.select.observe(Scored(batch.indices, self.data.labels[batch.indices], logits, losses))
        self.order.observe(batch, step)

    # -- state ---------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """The epoch in numbers, for ``metrics.jsonl``."""
        record: dict[str, Any] = {}
        if self.mix.changes:
            record["mix"] = self.mix.describe()
        if not isinstance(self.select, Everything):
            record["select"] = self.tally.record()
        if self.order.holds:
            record["order"] = self.order.describe()
        return record
