"""Where numbers, pictures and tables go: a record in TensorBoard, Weights & Biases or MLflow."""

from __future__ import annotations

import importlib
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from lessonplan.errors import ConfigError, RunFailed, first_line, unknown
from lessonplan.extras import refuse_other_versions
from lessonplan.text_options import read_pairs, read_values

Ending = Literal["finished", "failed", "stopped"]
"""How a record ends: ``stopped`` by Ctrl-C, to be gone on with."""


class Record(ABC):
    """One record; where it lies the package behind it says by its own settings (environment variables).

    Args:
        folder: of the run or comparison, whose name the record bears.
        chosen: the package's options that were given, by their names in ``options``; they go before its settings.

    Attributes:
        faults: errors by which the package refuses something.

    Raises:
        ConfigError: the package is not installed, or too old.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    faults: tuple[type[Exception], ...] = ()

    def __init__(self, folder: Path | None, chosen: Mapping[str, str] | None = None) -> None:
        self.folder, self.chosen = folder, dict(chosen or {})
        self.title = folder.resolve().name if folder is not None else None
        refuse_other_versions(self.name)
        try:
            self.module: Any = importlib.import_module(self.package)
        except ImportError:
            raise ConfigError(f"{self.name} is not installed: pip install 'lessonplan[{self.name}]'") from None

    def reach(self) -> None:  # noqa: B027
        """Make sure that records can be written, before several processes begin theirs."""

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


@contextmanager
def refusals(record: Record, doing: str) -> Iterator[None]:
    """What a package refuses, in a sentence.

    Args:
        record: whose package it is.
        doing: what was tried, to be read behind "cannot".

    Raises:
        RunFailed: the package refused it, which may lie at a server, a key or a store.
    """
    try:
        yield
    except record.faults as error:
        raise RunFailed(f"{record.name} cannot {doing}: {first_line(error)}") from error


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
    """A run of Weights & Biases, in its folder below the run's; ``WANDB_MODE=offline`` keeps it there.

    Options: ``project``, ``entity`` (a user or a team) and ``group``. A record that is gone on with stays in the
    project and with the entity that it was begun in.
    """

    name, package = "wandb", "wandb"
    options = ("project", "entity", "group")

    def __init__(self, folder: Path | None, chosen: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, chosen)
        self.faults = (self.module.Error,)

    def reach(self) -> None:
        """Ask for the key, which the processes of runs could not; nothing is asked for offline."""
        self.module.login()

    def open(self, config: Mapping[str, str], known: str | None, first: int) -> str:
        del first  # it keeps what it has
        *place, number = (known or uuid.uuid4().hex[:8]).split("/")
        begun = {name: value for name, value in zip(("entity", "project"), place, strict=False) if value}
        self.run = self.module.init(
            id=number,
            resume="allow",
            dir=str(self.folder) if self.folder is not None else None,
            name=self.title,
            config=dict(config),
            # beside a run of the user's own, which would be gone on with and ended here
            **({"reinit": "create_new"} if self.module.run is not None else {}),
            **{**self.chosen, **begun},
        )
        return f"{self.run.entity or ''}/{self.run.project or ''}/{number}"

    def numbers(self, numbers: Mapping[str, float], step: int) -> None:
        self.run.log(dict(numbers), step=step)

    def picture(self, title: str, file: Path, step: int) -> None:
        self.run.log({title: self.module.Image(str(file))}, step=step)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.run.log({title: self.module.Table(columns=list(columns), data=[list(row) for row in rows])})

    def close(self, ending: Ending) -> None:
        self.run.finish(exit_code=0 if ending == "finished" else 1)


class MLflow(Record):
    """A run of MLflow; ``MLFLOW_TRACKING_URI`` says in which store.

    Option: ``experiment``, which is made where it is new. Inside a run of the user's own it is a child of it.
    """

    name, package = "mlflow", "mlflow"
    options = ("experiment",)

    def __init__(self, folder: Path | None, chosen: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, chosen)
        self.faults = (self.module.MlflowException,)

    def reach(self) -> None:
        """Let the store make its tables and the experiment once: processes that do so at a time fail."""
        if self._experiment() is None:
            self.module.search_experiments(max_results=1)

    def open(self, config: Mapping[str, str], known: str | None, first: int) -> str:
        del first
        if known is not None:
            self.number = known
            self._go_on()
            return known
        own = self.module.active_run() is not None
        run = self.module.start_run(experiment_id=self._experiment(), run_name=self.title, nested=own)
        self.number = str(run.info.run_id)
        self.module.log_params({name: value[:500] for name, value in _plain(config).items()}, run_id=self.number)
        return self.number

    def numbers(self, numbers: Mapping[str, float], step: int) -> None:
        self.module.log_metrics(_plain(numbers), step=step, run_id=self.number)

    def picture(self, title: str, file: Path, step: int) -> None:
        del step
        self.module.log_artifact(str(file), artifact_path=title, run_id=self.number)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        by_column = {name: [row[place] for row in rows] for place, name in enumerate(columns)}
        self.module.log_dict(by_column, f"{title}.json", run_id=self.number)

    def close(self, ending: Ending) -> None:
        status = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}[ending]
        active = self.module.active_run()
        if active is not None and active.info.run_id == self.number:
            self.module.end_run(status=status)
        else:
            self.module.MlflowClient().set_terminated(self.number, status=status)

    def _go_on(self) -> None:
        try:
            self.module.start_run(run_id=self.number, nested=self.module.active_run() is not None)
        except self.module.MlflowException:
            # It lies in another experiment than this process has chosen, or is not there, which is refused here.
            self.module.MlflowClient().update_run(self.number, status="RUNNING")

    def _experiment(self) -> str | None:
        """The chosen experiment's number; None where MLflow is to choose."""
        name = self.chosen.get("experiment")
        if name is None:
            return None
        found = self.module.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self.module.create_experiment(name))


def _plain(named: Mapping[str, Any]) -> dict[str, Any]:
    """Names that every store of MLflow's takes, in which they may be paths of files; none is lost.

    >>> _plain({"methods/sum:k=4": 1, "methods/../own.py:Mine": 2})
    {'methods/sum-k-4': 1, 'methods/own.py-Mine': 2}
    >>> _plain({"mixup|cutmix": 1, "mixup:cutmix": 2})
    {'mixup-cutmix': 1, 'mixup-cutmix-2': 2}
    """
    plain: dict[str, Any] = {}
    for name, value in named.items():
        steps = re.sub(r"[^\w.\- /]", "-", name[:_LONGEST]).split("/")
        short = once = "/".join(step for step in steps if step not in ("", ".", "..")) or "unnamed"
        count = 1
        while short in plain:
            count += 1
            short = f"{once}-{count}"
        plain[short] = value
    return plain


_LONGEST = 240  # characters of a name

RECORDS: dict[str, type[Record]] = {kind.name: kind for kind in (TensorBoard, WeightsAndBiases, MLflow)}


def records(text: str, folder: Path | None) -> list[Record]:
    """Records by their names, separated by commas, each with its options behind a colon.

    Args:
        text: ``"tensorboard,wandb:project=cloth,group=first,mlflow:experiment=cloth"``.
        folder: of the run or comparison.

    Raises:
        ConfigError: a name or an option is unknown, a name is given twice, or its package is not installed.
    """
    chosen: dict[str, dict[str, str]] = {}
    for item in _split(text):
        name, _, options = item.partition(":")
        if name not in RECORDS:
            raise unknown("logger", name, RECORDS)
        if name in chosen:
            raise ConfigError(f"log={text!r} names {name} twice: give it once")
        allowed = dict.fromkeys(RECORDS[name].options, str)
        chosen[name] = read_values(name, read_pairs(name, options), allowed)
        for option, value in chosen[name].items():
            if not value:
                raise ConfigError(f"{name}:{option}= names nothing: write {name}:{option}=NAME")
    return [RECORDS[name](folder, options) for name, options in chosen.items()]


def _split(text: str) -> list[str]:
    """Cut at commas, but keep a logger's options together with it.

    >>> _split("tensorboard, wandb:project=cloth,group=first,mlflow")
    ['tensorboard', 'wandb:project=cloth,group=first', 'mlflow']
    """
    items: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if items and ":" in items[-1] and ":" not in part.partition("=")[0] and "=" in part:
            items[-1] += f",{part}"
        else:
            items.append(part)
    return items
