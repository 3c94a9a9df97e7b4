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
from lessonplan.mix.base import Mix, carrying_factors
from lessonplan.mix.unmixed import Unmixed
from lessonplan.network.learner import Learner, Step, soft
from lessonplan.network.network import Network
from lessonplan.network.passes import Passes
from lessonplan.network.ranks import ALONE, Ranks
from lessonplan.order.base import Orderer
from lessonplan.order.unordered import Unordered
from lessonplan.parts.part import Occasion
from lessonplan.parts.state import Stateful
from lessonplan.seeds import fold_seed
from lessonplan.select.asking import Scoring
from lessonplan.select.base import Scored
from lessonplan.select.choices import Choices
from lessonplan.select.epochwise import Epochwise
from lessonplan.select.everything import Everything
from lessonplan.select.stages import SelectionStages
from lessonplan.select.tally import Tally

HANDLED = "every sample is handled"
"""Why training ends where a selection keeps nothing for a whole epoch."""

EMPTY_EPOCHS = 100
"""Epochs in a row that have to keep nothing where each is another one: augmented samples, or scores that depend on
the batch. Of n pairs of a sample and a view, all rejected, fewer than 3 / n are accepted at 95% confidence."""


class Supplied(NamedTuple):
    """What it took to come by batches: candidates drawn, and passes through the network."""

    raw: int
    passes: Passes


class Part(NamedTuple):
    """A rank's part of a batch as it goes through the network.

    Attributes:
        mixed: what the rank passes.
        factor: of the mean of its losses, so that the mean over the ranks is the mean over the batch.
        rows: how many of its rows count; 0 where it only borrows one.
        total: how many rows all ranks pass that count.
    """

    mixed: Mixed
    factor: float
    rows: int
    total: int


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
        ranks: who trains on the same batches.
        mixes_apart: whether each of them mixes its own part of a batch.
    """

    # Keys are those of older runs, whose states are read.
    STATE: ClassVar[tuple[str, ...]] = (
        "finished", "_epoch=_epoch", "_size=_size", "_position=_position", "generator=_generator",
        "select", "order", "tally",
        "_raw=account.drawn", "_raw_taken=account.drawn_taken", "_scored_taken=account.scored_taken",
        "_asked=account.asked", "_pulled=account.pulled", "_handed=account.handed", "_empty", "choices",
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
        ranks: Ranks = ALONE,
        mixes_apart: bool = False,
    ) -> None:
        self.ranks, self._apart = ranks, mixes_apart and not ranks.alone
        self.data, self.seed, self.network = data, seed, network
        self.select = select if select is not None else Everything()
        self.order = order if order is not None else Unordered()
        self.mix = mix if mix is not None else Unmixed()
        self.choices = Choices(len(data)) if select is not None else None
        self.tally, self.account = Tally(), Account()
        self.finished = False
        self._heeds_logits, self._linear = heeds_logits, linear
        self._reusable = heeds_logits and not self.mix.changes and not self.order.holds
        self._generator = torch.Generator().manual_seed(fold_seed(seed, "selection"))
        self._epoch, self._size, self._position = 0, 1, 0
        self._empty = 0  # epochs in a row, up to the last one, that kept nothing
        self._always_another = getattr(data, "varies", False) or self.select.sees_another_each_time

    def setup(self, occasion: Occasion) -> None:
        """Tell the parts of the run that they are for."""
        final = self._heeds_logits and not self.mix.changes
        occasion = dataclasses.replace(occasion, final_updates=final)
        for part in (self.select, self.order, self.mix):
            part.setup(occasion)
        if not self.ranks.alone:
            self.mix.draw_together(not self._apart)

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
        self._empty = self._empty + 1 if self._kept_nothing() else 0
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
                if batch is not None:
                    self.account.handed += len(batch)
                    if self.choices is not None:
                        self.choices.add(batch.indices)
                yield batch
        self.finished = True

    def mixed(self, batch: Batch) -> Mixed:
        """A batch as it goes through the network, with factors of its losses.

        Where samples are blended, so are their factors. A loss that is linear in the target (cross-entropy) has
        them as part of soft targets, each partner's part its own; others get targets whose rows sum to 1, and
        factors. Labels that are united keep their rows, and have factors beside them, whatever the loss.
        """
        x, y = batch.read(self.data)
        if not self.mix.changes:
            return Mixed(x, y, batch.weights)
        if batch.weights is None:
            return Mixed(*self.mix(x, y), None)
        factored = soft(y, self.data.num_classes) * batch.weights.to(y.device)[:, None]
        self.mix.expect_soft_targets()
        if not self.mix.keeps_factors():
            factors = self.mix.blended_factors(x, factored)
            return Mixed(*self.mix(x, y), factors)
        with carrying_factors():
            x, target = self.mix(x, factored)
        if self._linear:
            return Mixed(x, target, None)
        factors = target.sum(1)
        return Mixed(x, target / factors.clamp(min=1e-12)[:, None], factors)

    def part(self, batch: Batch) -> Part:
        """This rank's part of a batch; all of it where there is one rank.

        A rank without a row of its own passes another one's, with a factor of 0: all take part in an update.
        """
        ranks = self.ranks
        if ranks.alone:
            mixed = self.mixed(batch)
            return Part(mixed, 1.0, len(mixed.x), len(mixed.x))
        if self.mix.changes and not self._apart:
            whole = self.mixed(self._put_together(batch))
            total, here = len(whole.x), ranks.taken(len(whole.x))
            weights = whole.weights[here] if whole.weights is not None else None
            mixed, rows = Mixed(whole.x[here], whole.target[here], weights), ranks.sizes(total)[ranks.rank]
            return Part(mixed, ranks.count * rows / total, rows, total)
        mixed, own = self.mixed(batch.part(ranks)), ranks.sizes(len(batch))[ranks.rank]
        rows = len(mixed.x) if own else 0
        total = round(ranks.summed([rows])[0]) if self.mix.changes else len(batch)
        return Part(mixed, ranks.count * own / len(batch), rows, total)

    def _put_together(self, batch: Batch) -> Batch:
        """A batch with all its pixels: what is dear to read, each rank has read a part of."""
        if batch.own is None:
            return batch
        x, y = (self._of_all(own, len(batch)) for own in batch.own.read(self.data))
        return Batch(batch.indices, batch.epochs, batch.weights, x, y)

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
            blocks=self._blocks(permutation[self._position :]) if self._known_ahead else None,
            ranks=self.ranks if self._read_in_parts else ALONE,
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

    @property
    def _read_in_parts(self) -> bool:
        """Whether a rank reads its own part of each batch alone: no part of the plan looks at the others."""
        return self.select.batchwise is None and not self.order.holds

    @property
    def _known_ahead(self) -> bool:
        """Whether samples are told what an epoch goes through; those in memory where nobody chooses among them."""
        if self.data.reads_ahead:
            return True
        chosen = self.select.batchwise is not None or self.order.holds
        return self.ranks.alone and not chosen and getattr(self.data, "gathers", False)

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
        mixing = self.mix.take_passes()
        if self._apart and self.mix.needs_network():
            mixing = Passes(*map(round, self.ranks.summed(mixing)))
        return Supplied(raw, Passes.forward(scored).plus(self.order.take_passes()).plus(mixing))

    @property
    def complete(self) -> bool:
        """Whether the epoch is over."""
        plain = isinstance(self.select, Everything) and not self.order.holds
        return self.finished or (plain and self._position == len(self.data))

    @property
    def starved(self) -> bool:
        """Whether nothing is left to be trained on: a whole epoch has been gone through and nothing was kept.

        Where no two epochs are alike, another augmentation of the same samples may well be kept: only after
        ``EMPTY_EPOCHS`` of them in a row.
        """
        if not self._kept_nothing():
            return False
        return not self._always_another or self._empty + 1 >= EMPTY_EPOCHS

    def _kept_nothing(self) -> bool:
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
        self.mix.done_with_batch()
        if self.select.remembers and self.network is not None:
            logits, losses = step.logits.detach(), step.losses.detach()
            if self.mix.changes or losses.ndim == 0:
                logits, losses = Scoring().of(self.network, batch, self.data)
                self.account.asked += len(batch)
            elif not self.ranks.alone and batch.step is None:
                logits, losses = self._of_all(logits, len(batch)), self._of_all(losses, len(batch))
            self.select.observe(Scored(batch.indices, self.data.labels[batch.indices], logits, losses))
        self.order.observe(batch, step)

    def _of_all(self, own: Tensor, rows: int) -> Tensor:
        return self.ranks.rows(own[: self.ranks.sizes(rows)[self.ranks.rank]], rows)

    # -- state ---------------------------------------------------------------------------------------

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave; before format 3 epochs without a sample were not counted."""
        if state.get("choices") is None:  # of before they were counted: half a count would say nothing
            self.choices = None
        super().load_state_dict({"empty": 0, "choices": None, **state})

    def describe(self) -> dict[str, Any]:
        """The epoch in numbers, for ``metrics.jsonl``."""
        record: dict[str, Any] = {}
        if self.mix.changes:
            record["mix"] = self.mix.describe()
        if not isinstance(self.select, Everything):
            record["select"] = self.tally.record()
            if self.choices is not None:
                record["select"]["choices"] = self.choices.concentration()
        if self.order.holds:
            record["order"] = self.order.describe()
        return record
