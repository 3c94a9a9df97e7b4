"""Where numbers, pictures and tables go: a record in TensorBoard, Weights & Biases or MLflow."""

from __future__ import annotations

import importlib
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from lessonplan.errors import ConfigError, unknown
from lessonplan.extras import refuse_other_versions

Ending = Literal["finished", "failed", "stopped"]
"""How a record ends: ``stopped`` by Ctrl-C, to be gone on with."""


class Record(ABC):
    """One record; the package behind it says by its own settings (environment variables) where it lies.

    Args:
        folder: of the run or comparison, whose name the record bears.

    Raises:
        ConfigError: the package is not installed, or too old.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.title = folder.resolve().name if folder is not None else None
        refuse_other_versions(self.name)
        try:
            self.module: Any = importlib.import_module(self.package)
        except ImportError:
            raise ConfigError(f"{self.name} is not installed: pip install 'lessonplan[{self.name}]'") from None

    @abstractmethod
    def open(self, config: Mapping[str, str], known: str | None, first: int) -> str:
        """Begin a record, or go on with a known one.

        Args:
            config: what the run is, by flat names.
            known: what an earlier ``open`` gave.
            first: the first step that will be written; what stands there already was cut short.

        Returns:
            what the record is known by.
        """

    @abstractmethod
    def numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """Write numbers of a step."""

    @abstractmethod
    def picture(self, title: str, file: Path, step: int) -> None:
        """Write a picture, a PNG file."""

    @abstractmethod
    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table."""

    @abstractmethod
    def close(self, ending: Ending) -> None:
        """End the record."""


class TensorBoard(Record):
    """Event files in ``tensorboard/`` below the folder."""

    name, package = "tensorboard", "torch.utils.tensorboard"

    def open(self, config: Mapping[str, str], known: str | None, first: int) -> str:
        where = str(self.folder / "tensorboard") if self.folder is not None else None
        self.writer = self.module.SummaryWriter(where, purge_step=first if known is not None else None)
        self.table("configuration", ("name", "value"), list(config.items()))
        return "tensorboard"

    def numbers(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step, new_style=True, double_precision=True)
        self.writer.flush()  # it is noted that they are there

    def picture(self, title: str, file: Path, step: int) -> None:
        with Image.open(file, formats=("PNG",)) as image:
            self.writer.add_image(title, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        self.writer.add_text(title, "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))

    def close(self, ending: Ending) -> None:
        self.writer.add_text("status", ending)
        self.writer.close()


class WeightsAndBiases(Record):
    """A run of Weights & Biases, in its folder below the run's; ``WANDB_MODE=offline`` keeps it there."""

    name, package = "wandb", "wandb"

    def open(self, config: Mapping[str, str], known: str | None, first: int) -> str:
        del first  # it keeps what it has
        number = known or uuid.uuid4().hex[:8]
        where = str(self.folder) if self.folder is not None else None
        self.run = self.module.init(id=number, resume="allow", dir=where, name=self.title, config=dict(config))
        return number

    def numbers(self, numbers: Mapping[str, float], step: int) -> None:
        self.run.log(dict(numbers), step=step)

    def picture(self, title: str, file: Path, step: int) -> None:
        self.run.log({title: self.module.Image(str(file))}, step=step)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.run.log({title: self.module.Table(columns=list(columns), data=[list(row) for row in rows])})

    def close(self, ending: Ending) -> None:
        self.run.finish(exit_code=0 if ending == "finished" else 1)


class MLflow(Record):
    """A run of MLflow; ``MLFLOW_TRACKING_URI`` says in which store."""

    name, package = "mlflow", "mlflow"

    def open(self, config: Mapping[str, str], known: str | None, first: int) -> str:
        del first
        nested = self.module.active_run() is not None
        run = self.module.start_run(run_id=known, run_name=None if known else self.title, nested=nested)
        if known is None:
            self.module.log_params({name: value[:500] for name, value in config.items()})
        return str(run.info.run_id)

    def numbers(self, numbers: Mapping[str, float], step: int) -> None:
        self.module.log_metrics(dict(numbers), step=step)

    def picture(self, title: str, file: Path, step: int) -> None:
        del step
        self.module.log_artifact(str(file), artifact_path=title)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        by_column = {name: [row[place] for row in rows] for place, name in enumerate(columns)}
        self.module.log_dict(by_column, f"{title}.json")

    def close(self, ending: Ending) -> None:
        status = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}[ending]
        self.module.end_run(status=status)


RECORDS: dict[str, type[Record]] = {kind.name: kind for kind in (TensorBoard, WeightsAndBiases, MLflow)}


def records(names: str, folder: Path | None) -> list[Record]:
    """Records by their names, separated by commas.

    Raises:
        ConfigError: a name is unknown, or its package is not installed.
    """
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in RECORDS:
            raise unknown("logger", name, RECORDS)
    return [RECORDS[name](folder) for name in chosen]
