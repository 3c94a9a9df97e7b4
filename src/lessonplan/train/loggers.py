"""A run in the tools people watch runs with: every epoch's record, the result, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessonplan.files import write_json
from lessonplan.stored import read_json_value
from lessonplan.train.callbacks import Callback
from lessonplan.train.records import Ending, Record, records, refusals

if TYPE_CHECKING:
    from lessonplan.train.trainer import Trainer

__all__ = ["Logger", "loggers"]

_FILE = "loggers.json"
"""In a run's folder: what its records are known by, and up to which step they are written."""


def loggers(names: str, folder: str | Path | None = None, picture: Path | None = None) -> list[Callback]:
    """Callbacks that log every epoch's record, beside ``metrics.jsonl``, and the result.

    A run that fails is marked so; one that is resumed goes on in the same record.

    Args:
        names: ``tensorboard``, ``wandb`` and ``mlflow``, separated by commas; behind a colon their options:
            ``wandb:project=NAME,entity=NAME,group=NAME``, ``mlflow:experiment=NAME``.
        folder: of the run; TensorBoard's files go into ``tensorboard/`` in it.
        picture: a PNG file of what the network sees, if there is one.

    Raises:
        ConfigError: a name or an option is unknown, or its package is not installed.
    """
    place = Path(folder) if folder is not None else None
    return [Logger(record, picture) for record in records(names, place)]


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


def flat_texts(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """What a configuration says, as text, with slashes in the names; what is not set is left out.

    >>> dict(flat_texts({"model": "tiny", "plan": {"mix": {"name": "sum", "k": 4}, "order": None}}))
    {'model': 'tiny', 'plan/mix/name': 'sum', 'plan/mix/k': '4'}
    """
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flat_texts(value, f"{prefix}{name}/")
        elif value is not None:
            yield f"{prefix}{name}", str(value)


class Logger(Callback):
    """Writes a run into a record.

    Args:
        record: where.
        picture: see ``loggers``.
    """

    def __init__(self, record: Record, picture: Path | None = None) -> None:
        self.record, self.picture = record, picture
        self._written = -1  # the last step that the record has
        self._id: str | None = None  # while it is open

    def on_train_start(self, trainer: Trainer) -> None:
        """Open the record; a resumed run's is gone on with."""
        kept = self._kept().get(self.record.name)
        known = kept if isinstance(kept, dict) and isinstance(kept.get("id"), str) else {}
        self._written = int(known.get("step", -1))
        with refusals(self.record, opening(self.record, bool(known))):
            self._id = self.record.open(_configuration(trainer), known.get("id"), self._written + 1)
            if self.picture is not None and not known:
                self.record.picture("mixed samples", self.picture, 0)
        self._keep()

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Write a record, unless it was written before the run was interrupted."""
        latest = trainer.history[-1]
        if latest["step"] > self._written:
            with refusals(self.record, "take the numbers of an epoch"):
                self.record.numbers(dict(flat_numbers(latest)), latest["step"])
            self._written = latest["step"]
            self._keep()

    def on_finish(self, trainer: Trainer, result: dict[str, Any]) -> None:
        """Write the result: of the test data, too."""
        if self._id is None:  # a head that was found without training
            self.on_train_start(trainer)
        numbers = {f"result/{name}": value for name, value in flat_numbers(result)}
        with refusals(self.record, "take the result, which the run's folder has"):
            self.record.numbers(numbers, trainer.counters.steps)
            self._close("finished")

    def on_failure(self, trainer: Trainer, error: BaseException) -> None:
        """Say that it failed, or was stopped by Ctrl-C."""
        if self._id is not None:
            with suppress(*self.record.faults):  # what ended the run is the news
                self._close("stopped" if isinstance(error, KeyboardInterrupt) else "failed")

    def _close(self, ending: Ending) -> None:
        self.record.close(ending)
        self._id = None

    def _kept(self) -> dict[str, Any]:
        return known_records(self.record.folder)

    def _keep(self) -> None:
        keep_record(self.record, {"id": self._id, "step": self._written})


def opening(record: Record, known: bool) -> str:
    """What a record that is opened is to do, and what helps where it cannot."""
    if not known or record.folder is None:
        return "begin a record"
    return f"go on with the record that {record.folder / _FILE} names (without that file a new one begins)"


def known_records(folder: Path | None) -> dict[str, Any]:
    """What the records of a run or a comparison are known by."""
    if folder is None or not (folder / _FILE).exists():
        return {}
    found = read_json_value(folder / _FILE, "delete it to begin new records")
    return found if isinstance(found, dict) else {}


def keep_record(record: Record, known: dict[str, Any]) -> None:
    """Note what a record is known by, where there is a folder."""
    if record.folder is not None:
        write_json(record.folder / _FILE, {**known_records(record.folder), record.name: known})


def _configuration(trainer: Trainer) -> dict[str, str]:
    """What the run is, as its folder says it."""
    if trainer.folder is not None:
        return dict(flat_texts(trainer.folder.config))
    told = {
        "plan": trainer.plan.config(),
        "data": trainer.data.description,
        "budget": str(trainer.budget),
        "seed": trainer.seed,
        "settings": trainer.settings.model_dump(mode="json"),
    }
    return dict(flat_texts({"model": type(trainer.model).__name__, **told}))
