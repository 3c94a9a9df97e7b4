"""How far a training is: a line in a terminal, nothing anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lessonplan.progress import Line
from lessonplan.progress_words import per_time
from lessonplan.train.callbacks import Callback

if TYPE_CHECKING:
    from lessonplan.train.trainer import Trainer


class ProgressLine(Callback):
    """Share of the budget, samples a second, time left, loss, accuracy and the best one so far.

    Args:
        share: what is done of all, in [0, 1], where that is not the budget's affair.
    """

    def __init__(self, share: Callable[[Trainer], float] | None = None) -> None:
        self._share = share or (lambda trainer: trainer.progress)
        self._line = Line("training", total=1.0)
        self._best: float | None = None

    def on_train_start(self, trainer: Trainer) -> None:
        """Show the line."""
        self._began, self._before = time.monotonic(), trainer.counters.samples
        self._line = Line("training", total=1.0, done=min(self._share(trainer), 1.0))
        for record in trainer.history:  # of the run that goes on
            self._judge(trainer, record.get("val"))
        self._line.start()

    def on_batch_end(self, trainer: Trainer) -> None:
        """Move the line."""
        if not self._line.shown:
            return
        passed = max(time.monotonic() - self._began, 1e-9)
        rate = per_time((trainer.counters.samples - self._before) / passed, "samples")
        self._line.update(min(self._share(trainer), 1.0), rate=rate)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Say how training goes."""
        record = trainer.history[-1]
        text = f"epoch {record['epoch']}"
        if record["train"] is not None:  # an epoch may go by without an update
            text += f"  loss {record['train']['loss']:.3f}"
        if "val" in record:
            text += f"  val accuracy {record['val']['accuracy']:.3f}"
        self._judge(trainer, record.get("val"))
        watched = trainer.settings.watch
        best = None if self._best is None else f"best {watched} {self._best:.3f}"
        self._line.update(what=text, best=best)

    def on_train_end(self, trainer: Trainer) -> None:
        """Take the line away."""
        self._line.stop()

    def _judge(self, trainer: Trainer, val: dict[str, float] | None) -> None:
        """Remember the best validation by the metric that is watched."""
        watched = trainer.settings.watch
        value = (val or {}).get(watched.replace("-", "_"))
        if value is None:
            return
        better = min if watched == "loss" else max
        self._best = value if self._best is None else better(self._best, value)
