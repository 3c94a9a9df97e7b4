"""What selection costs and saves, said once while the first epoch runs."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lessonplan.train.callbacks import Callback

if TYPE_CHECKING:
    from lessonplan.train.trainer import Trainer

_ENOUGH_UPDATES = 20
_ENOUGH_OF_EPOCH = 0.5


@dataclass(frozen=True)
class SelectionCost:
    """What selection takes, as far as a first epoch shows it; None is not known.

    Attributes:
        acceptance: share of the candidates that is kept, in [0, 1].
        update: passes of an update, scoring included, in passes of a plain update on as many samples.
        epoch: passes of an epoch in passes of a plain epoch.
        waiting: share of the time that goes into finding the samples of an update, in [0, 1].
        asks: whether candidates are scored by the network.
        one_pass: whether most scoring passes are the training pass.
        filled: whether a batch was filled.
    """

    acceptance: float | None
    update: float | None = None
    epoch: float | None = None
    waiting: float | None = None
    asks: bool = True
    one_pass: bool = False
    filled: bool = True

    def sentence(self) -> str:
        """One line for a person.

        >>> SelectionCost(0.5, update=1.0, epoch=0.5, asks=False).sentence().split(": ")[1]
        "an update costs as much as a plain one, an epoch 50% of a plain epoch's"
        """
        if self.acceptance is None:
            return "selection has seen no candidates in the first epoch"
        kept = f"selection keeps {self.acceptance:.1%} of the candidates so far".replace(".0%", "%")
        if not self.filled:
            return f"{kept}, which filled no batch in the first epoch: its passes only gave scores"
        if self.update is None:
            return f"{kept}; what an update costs does not tell selection's part from that of ordering and mixing"
        if not self.asks:
            text = f"{kept} without asking the network: an update costs as much as a plain one"
        else:
            text = f"{kept}: an update costs {self.update:.2f} times the passes of a plain one"
            if self.one_pass:
                text += " (scoring is part of the training pass)"
            elif self.waiting is not None:
                text += f" ({self.waiting:.0%} of the time goes into scoring and reading)"
        return text if self.epoch is None else f"{text}, an epoch {self.epoch:.0%} of a plain epoch's"


class SelectionNote(Callback):
    """Says on standard error what selection costs, once, after 20 updates or half of the first epoch."""

    def __init__(self) -> None:
        self._silent = True
        self._clock = _Clock()

    def on_train_start(self, trainer: Trainer) -> None:
        """Nothing to say without a selection, or behind the first epoch."""
        self._silent = trainer.plan.select is None or trainer.counters.epoch > 0
        self._clock = _Clock(whole=trainer.counters.steps == 0)
        self._clock.mark(trainer)

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Time from here to the first batch belongs to finding its samples."""
        if not self._silent:
            self._clock.mark(trainer)

    def on_batch_start(self, trainer: Trainer) -> None:
        """The samples of an update are found."""
        if not self._silent:
            self._clock.found(trainer)

    def on_batch_end(self, trainer: Trainer) -> None:
        """Say it if enough was seen."""
        if self._silent:
            return
        self._clock.updated(trainer)
        enough = trainer.supply.tally.updates >= _ENOUGH_UPDATES
        if enough or trainer.counters.epoch_share >= _ENOUGH_OF_EPOCH:
            self._say(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """At the latest; without a single update, for example."""
        if not self._silent:
            self._say(trainer)

    def _say(self, trainer: Trainer) -> None:
        self._silent = True
        print(f"lessonplan: {selection_cost(trainer, self._clock).sentence()}", file=sys.stderr, flush=True)


class _Clock:
    """Seconds spent on finding samples and on updates; the first update, which warms up, is left out."""

    def __init__(self, whole: bool = True) -> None:
        self.whole = whole  # whether all of the epoch has been seen
        self.before, self.finding, self.updating = 0.0, 0.0, 0.0
        self._updates, self._last = 0, 0.0

    def mark(self, trainer: Trainer) -> float:
        """The time since the last mark."""
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)  # otherwise scoring would wait for the update before it
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed

    def found(self, trainer: Trainer) -> None:
        """Samples are found."""
        passed = self.mark(trainer)
        if self._updates:
            self.finding += passed
        else:
            self.before = passed

    def updated(self, trainer: Trainer) -> None:
        """The network is updated with them."""
        passed = self.mark(trainer)
        if self._updates:
            self.updating += passed
        self._updates += 1

    def waiting(self, upfront: bool, every: int, share: float) -> float | None:
        """The share of the time for finding samples; scoring before an epoch is spread over all of its updates."""
        if not self.updating or (upfront and not self.whole):
            return None
        # Of N updates N - 1 were timed, so the part before the epoch is scaled as they are.
        before = self.before / every * share * (self._updates - 1) / self._updates if upfront else 0.0
        return (before + self.finding) / (before + self.finding + self.updating)


def selection_cost(trainer: Trainer, clock: _Clock | None = None) -> SelectionCost:
    """What selection takes, from the counts of the first epoch so far.

    Scoring before an epoch is spread over the epoch, and over the epochs that it serves; scoring of what waits for
    later updates is theirs.

    Args:
        trainer: within its first epoch, between two updates.
        clock: times of its updates.
    """
    tally, counters, plan = trainer.supply.tally, trainer.counters, trainer.plan
    asks = tally.scored + tally.reused > 0
    if plan.select is None or not tally.trained or (plan.order is not None and plan.mix is not None):
        return SelectionCost(tally.acceptance, asks=asks, filled=tally.trained > 0)
    if plan.order is not None:  # what looking ahead takes is not selection's, and batches are held
        plain = 3 * tally.trained
        total = plain + tally.scored
    else:
        plain = 3 * (tally.trained if tally.reused else counters.backpropagated)
        total = counters.cost
    epochwise, samples = plan.select.epochwise, len(trainer.data.train)
    upfront = samples if epochwise is not None and epochwise.selection.needs == "forward" else 0
    every = epochwise.every if epochwise is not None else 1
    share = min(counters.epoch_share, 1.0)
    if share <= 0:
        return SelectionCost(tally.acceptance, asks=asks)
    accepted = tally.accepted - tally.discarded
    if epochwise is not None and epochwise.kept is not None:
        accepted -= len(epochwise.kept)
    with_waiting = max(1.0, accepted / tally.trained)
    scoring = total - upfront - plain
    return SelectionCost(
        tally.acceptance,
        update=1 + (upfront / every * share + scoring) / (plain * with_waiting),
        epoch=(upfront / every + (scoring + plain * with_waiting) / share) / (samples * plain / tally.trained),
        waiting=clock.waiting(bool(upfront), every, share) if clock is not None else None,
        asks=asks,
        one_pass=tally.reused > tally.scored,
    )
