"""Metrics for the tools people watch runs with: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessonplan.errors import ConfigError, unknown
from lessonplan.train.callbacks import Callback

if TYPE_CHECKING:
    from lessonplan.train.trainer import Trainer


def loggers(names: str, folder: Path | None = None) -> list[Callback]:
    """Callbacks that log every epoch's record, beside ``metrics.jsonl``.

    Args:
        names: ``tensorboard``, ``wandb`` and ``mlflow``, separated by commas.
        folder: of the run; TensorBoard's files go into ``tensorboard/`` in it.

    Raises:
        ConfigError: a name is unknown, or its package is not installed.
    """
    kinds: dict[str, type[_Logger]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in kinds:
            raise unknown("logger", name, kinds)
    return [kinds[name](folder) for name in chosen]


def flat_numbers(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a record with slashes in their names.

    >>> dict(flat_numbers({"lr": 0.1, "train": {"loss": 2.0}, "epoch": 3}))
    {'lr': 0.1, 'train/loss': 2.0, 'epoch': 3.0}
    """
    for name, value in record.items():
        if isinstance(value, dict):
            yield from flat_numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


class _Logger(Callback):
    package = ""
    extra = ""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        try:
            self.module: Any = importlib.import_module(self.package)
        except ImportError:
            raise ConfigError(f"{self.extra} is not installed: pip install 'lessonplan[{self.extra}]'") from None


class TensorBoard(_Logger):
    """Scalars for TensorBoard."""

    package, extra = "torch.utils.tensorboard", "tensorboard"

    def on_train_start(self, trainer: Trainer) -> None:
        """Open the log; a resumed run hides what it will write again."""
        where = str(self.folder / "tensorboard") if self.folder is not None else None
        self.writer = self.module.SummaryWriter(where, purge_step=trainer.counters.steps + 1)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Write a record."""
        record = trainer.history[-1]
        for name, value in flat_numbers(record):
            self.writer.add_scalar(name, value, record["step"])

    def on_train_end(self, trainer: Trainer) -> None:
        """Close the log."""
        self.writer.close()


class WeightsAndBiases(_Logger):
    """Metrics for Weights & Biases."""

    package, extra = "wandb", "wandb"

    def on_train_start(self, trainer: Trainer) -> None:
        """Begin a run there, with the plan and the settings as its configuration."""
        config = {**trainer.plan.config(), **trainer.settings.model_dump(), "budget": str(trainer.budget)}
        self.run = self.module.init(dir=str(self.folder) if self.folder is not None else None, config=config)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Send a record."""
        self.run.log(dict(flat_numbers(trainer.history[-1])), step=trainer.counters.steps)

    def on_train_end(self, trainer: Trainer) -> None:
        """End the run there."""
        self.run.finish()


class MLflow(_Logger):
    """Metrics for MLflow."""

    package, extra = "mlflow", "mlflow"

    def on_train_start(self, trainer: Trainer) -> None:
        """Begin a run there, with the settings as its parameters."""
        self.module.start_run()
        self.module.log_params({**trainer.settings.model_dump(), "budget": str(trainer.budget)})

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Send a record."""
        self.module.log_metrics(dict(flat_numbers(trainer.history[-1])), step=trainer.counters.steps)

    def on_train_end(self, trainer: Trainer) -> None:
        """End the run there."""
        self.module.end_run()
