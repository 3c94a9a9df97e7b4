"""What a user can hook into: start and end of training, epoch and batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lessonplan.train.trainer import Trainer


class Callback:
    """Override what you need; ``trainer`` has the model, the counters, the plan and the last metrics.

    Set ``trainer.state.stop_reason`` to a short text to end training after the present batch.
    """

    def on_train_start(self, trainer: Trainer) -> None:
        """Before the first batch, also after a resume."""

    def on_train_end(self, trainer: Trainer) -> None:
        """After the last batch."""

    def on_finish(self, trainer: Trainer, result: dict[str, Any]) -> None:
        """After the network was judged; ``result`` is what ``fit`` returns."""

    def on_failure(self, trainer: Trainer, error: BaseException) -> None:
        """After training or judging ended by an error, or by Ctrl-C."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before an epoch's first batch."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After an epoch; ``trainer.history[-1]`` has its metrics."""

    def on_batch_start(self, trainer: Trainer) -> None:
        """Before a batch is mixed and trained on."""

    def on_batch_end(self, trainer: Trainer) -> None:
        """After an update."""
