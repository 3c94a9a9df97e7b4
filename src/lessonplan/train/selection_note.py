"""What selection costs and saves, said once while the first epoch runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessonplan.progress import say
from lessonplan.train.callbacks import Callback

if TYPE_CHECKING:
    from lessonplan.train.trainer import Trainer

_ENOUGH_UPDATES = 20


class SelectionNote(Callback):
    """Says on standard error what selection costs, once: after 20 updates, or at the end of the first epoch.

    A selection that scores the whole set before the epoch is told of at the end, when its passes have paid.
    """

    def on_train_start(self, trainer: Trainer) -> None:
        """Nothing to say without a selection, or behind the first epoch."""
        self._silent = trainer.plan.select is None or trainer.counters.epoch > 0

    def on_batch_end(self, trainer: Trainer) -> None:
        """Say it if enough was seen."""
        if trainer.supply.select.epochwise is None and trainer.supply.tally.updates >= _ENOUGH_UPDATES:
            self._say(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """At the latest; without a single update, for example."""
        self._say(trainer)

    def _say(self, trainer: Trainer) -> None:
        if not self._silent:
            self._silent = True
            say(selection_note(trainer))


def selection_note(trainer: Trainer) -> str:
    """One line for a person: the share that is kept, and what all passes so far cost beside plain training's."""
    tally, counters, plan = trainer.supply.tally, trainer.counters, trainer.plan
    if tally.acceptance is None:
        return "selection has seen no candidates in the first epoch"
    kept = f"selection keeps {tally.acceptance:.1%} of the candidates so far".replace(".0%", "%")
    if not tally.trained:
        return f"{kept}, which filled no batch in the first epoch: its passes only gave scores"
    alone, drawn = 3 * tally.trained, 3 * max(counters.raw_samples, 1)
    words = f"{kept}: passes cost {counters.cost / alone:.2f} times those of training on the kept samples alone"
    words += f", {counters.cost / drawn:.0%} of those of training on all that were drawn"
    others = [name for name, part in (("ordering", plan.order), ("mixing", plan.mix)) if part is not None]
    return f"{words}, {' and '.join(others)} included" if others else words
