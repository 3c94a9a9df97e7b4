"""A progress line in a terminal, nothing anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lessonplan.train.callbacks import Callback

if TYPE_CHECKING:
    from lessonplan.train.trainer import Trainer


class ProgressLine(Callback):
    """Share of the budget, time left, loss and accuracy; silent unless standard error is a terminal.

    Args:
        share: what is done of all, in [0, 1], where that is not the budget's affair.
    """

    def __init__(self, share: Callable[[Trainer], float] | None = None) -> None:
        self._share = share or (lambda trainer: trainer.progress)
        self._console = Console(stderr=True)
        self._progress: Progress | None = None

    def on_train_start(self, trainer: Trainer) -> None:
        """Show the line."""
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"))
            self._progress = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
            self._task = self._progress.add_task("training", total=1.0)
            self._progress.start()

    def on_batch_end(self, trainer: Trainer) -> None:
        """Move the line."""
        if self._progress is not None:
            self._progress.update(self._task, completed=min(self._share(trainer), 1.0))

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Say how training goes."""
        if self._progress is not None:
            record = trainer.history[-1]
            text = f"epoch {record['epoch']}"
            if record["train"] is not None:  # an epoch may go by without an update
                text += f"  loss {record['train']['loss']:.3f}"
            if "val" in record:
                text += f"  val accuracy {record['val']['accuracy']:.3f}"
            self._progress.update(self._task, description=text)

    def on_train_end(self, trainer: Trainer) -> None:
        """Take the line away."""
        if self._progress is not None:
            self._progress.stop()
