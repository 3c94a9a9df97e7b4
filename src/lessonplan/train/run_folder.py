"""The folder of a run: configuration, metrics, checkpoints, weights, result."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from lessonplan.errors import ConfigError, DataError, LessonplanWarning
from lessonplan.files import disk_error, read_json_lines, remove_leftovers, write_atomically, write_json
from lessonplan.stored import read_json, read_json_value, read_yaml
from lessonplan.train.budget import Budget
from lessonplan.train.checkpoint import Checkpoints
from lessonplan.train.identity import ended_early, older_formats

_THREADS, _RANKS = "threads", "ranks"
_LONGEST, _LISTED = 200, 12  # characters of a value where configurations differ, and how many are told


class RunFolder:
    """Reads and writes what a run leaves on the disk.

    ``config.yaml`` says what the run is, ``metrics.jsonl`` has a line an epoch, ``checkpoints/`` what a resume
    needs; ``weights.safetensors``, ``predictions.csv`` and ``mistakes.json`` (what it says of every sample of the
    test part, or without one of the validation part) and ``result.json`` are written at the end, the latter last.

    Args:
        path: the folder; ``claim`` makes it.
        config: the run's identity.
        ranks: how many processes train together.

    Attributes:
        spent: the shorter budget of the finished run in the folder that this one goes on from, or None.
        threads: how many CPU threads the run in the folder began with, or None.

    Raises:
        ConfigError: the folder holds a run of another configuration, the differences are named; or an unfinished
            one of another number of ranks.
    """

    def __init__(self, path: Path, config: dict[str, Any], ranks: int = 1) -> None:
        self.path, self.ranks = path, ranks
        self.config = json.loads(json.dumps(config))
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.metrics = path / "metrics.jsonl"
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file: give a folder for the run")
        self.threads = stored_threads(path)
        existing = read_config(path)
        if existing is not None:
            existing.pop(_THREADS, None)
            ranks = existing.pop(_RANKS, 1)
        self.spent = self._spent(existing)
        if existing is not None and ended_early(existing, self.result()):
            raise ConfigError(
                f"{path} holds a run that an earlier version ended when one epoch's augmentation had nothing left"
                " to select: give another folder"
            )
        if self.spent is None and existing is not None and not self._is_ours(existing):
            differences = in_words(describe_differences(existing, self.config))
            raise ConfigError(
                f"{path} holds a run of another configuration ({differences}):"
                " give another folder, or the same settings to resume"
            )
        if existing is not None:
            self._check_ranks(ranks, existing.get("budget"))

    def _check_ranks(self, begun: Any, budget: Any) -> None:
        """A finished run is anybody's; one that goes on wants as many streams of random numbers as it had."""
        if begun != self.ranks and (self.result() is None or budget != self.config["budget"]):
            raise ConfigError(
                f"the run in {self.path} was begun by {_in_processes(begun)}, and now there is"
                f" {_in_processes(self.ranks)}: start as many as then to go on, or give another folder"
            )

    def _is_ours(self, config: dict[str, Any]) -> bool:
        """Whether a configuration is this run's, perhaps as an older format wrote it."""
        return config == self.config or config in older_formats(self.config)

    def _spent(self, existing: dict[str, Any] | None) -> str | None:
        """The budget of a finished run that differs from this one in a shorter budget of the same unit, else
        None."""
        if (
            existing is None
            or existing.get("budget") == self.config["budget"]
            or not self._is_ours({**existing, "budget": self.config["budget"]})
            or (self.result() is None and not self._kept(existing["budget"]))
        ):
            return None
        before, now = Budget.parse(existing["budget"]), Budget.parse(self.config["budget"])
        return str(before) if before.unit == now.unit and before.amount < now.amount else None

    def claim(self, threads: int) -> None:
        """Write the configuration, once everything was checked: from here on the folder belongs to this run.

        With how many CPU ``threads`` it trains is no part of what the run is, but kept beside it: the last bits
        of sums depend on it.

        A finished run that goes on with a longer budget is unfinished from here on; what it had reached is kept in
        ``continued.json``. The old result is gone before the new budget is written: a kill in between leaves a
        finished run of the shorter budget, which ``continued.json`` tells.
        """
        if self.spent is not None:
            if not self._kept(self.spent):
                before = [*self._before(), {"budget": self.spent, **(self.result() or {})}]
                write_json(self.path / "continued.json", before)
            (self.path / "result.json").unlink(missing_ok=True)
            self._write_config(threads)
            self.spent = None
        if self.threads is None:  # a new run, or one that was begun before this was kept
            self._write_config(threads)
        remove_leftovers(self.path)
        remove_leftovers(self.checkpoints.folder)

    def _write_config(self, threads: int) -> None:
        existing = read_config(self.path) or self.config  # a run of an older format keeps what it says
        existing = self.config if self.spent is not None else existing
        beside = {_THREADS: threads} if self.ranks == 1 else {_THREADS: threads, _RANKS: self.ranks}
        text = yaml.safe_dump({**existing, **beside}, sort_keys=False)
        write_atomically(self.path / "config.yaml", text.encode())
        self.threads = threads

    def result(self) -> dict[str, Any] | None:
        """The result, if the run is finished; see ``read_result``."""
        return read_result(self.path)

    def _kept(self, budget: str) -> bool:
        """Whether the last result that it went on from is of this budget."""
        before = self._before()
        return bool(before) and before[-1]["budget"] == budget

    def _before(self) -> list[dict[str, Any]]:
        """The results of the shorter budgets that it went on from."""
        file = self.path / "continued.json"
        found = read_json_value(file, "delete it to go on") if file.exists() else []
        if not isinstance(found, list) or not all(isinstance(b, dict) and "budget" in b for b in found):
            raise DataError(f"{file} is no list of results of shorter budgets: delete it to go on")
        return found

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add an epoch's line."""
        try:
            with self.metrics.open("ab") as file:  # bytes: looking a codec up takes longer than writing
                file.write(json.dumps(record).encode() + b"\n")
        except OSError as error:
            raise disk_error(self.metrics, error) from error

    def sync_metrics(self) -> int:
        """Put the lines on the disk; returns their length in bytes, for a checkpoint to remember."""
        if not self.metrics.exists():
            return 0
        try:
            with self.metrics.open("rb") as file:
                os.fsync(file.fileno())
            return self.metrics.stat().st_size
        except OSError as error:
            raise disk_error(self.metrics, error) from error

    def rewind_metrics(self, length: int) -> list[dict[str, Any]]:
        """Cut off what was written after a checkpoint; returns the records that stay."""
        there = self.metrics.stat().st_size if self.metrics.exists() else 0
        if there < length:
            warnings.warn(
                f"{self.metrics} is shorter than when the checkpoint was saved: records of earlier epochs are"
                " lost, and training goes on without them",
                LessonplanWarning,
                stacklevel=2,
            )
        if not self.metrics.exists():
            return []
        try:
            with self.metrics.open("rb+") as file:
                file.truncate(min(length, there))
                if there < length and there and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                    file.write(b"\n")  # the next record is not glued to half a one
        except OSError as error:
            raise disk_error(self.metrics, error) from error
        return read_metrics(self.path)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result: from here on the run is finished."""
        if self._before():
            result["continued"] = [before["budget"] for before in self._before()]
        write_json(self.path / "result.json", result)


def _in_processes(count: Any) -> str:
    return "one process" if count == 1 else f"a group of {count} ranks"


def read_config(path: Path) -> dict[str, Any] | None:
    """The configuration of a run's folder, or None where there is none."""
    file = path / "config.yaml"
    if not file.exists():
        return None
    config = read_yaml(file)
    if not isinstance(config, dict):
        raise DataError(f"{file} is no configuration of a run: put it back, or give the folder of a run")
    return config


def read_result(path: Path) -> dict[str, Any] | None:
    """The result in a run's folder, or None where it is not finished.

    A result that cannot be read counts as none, with a warning: the last checkpoint gives it again.
    """
    file = path / "result.json"
    if not file.exists():
        return None
    try:
        return read_json(file)
    except DataError as error:
        warnings.warn(
            f"{error}; the run counts as unfinished, and its last checkpoint will give the result again",
            LessonplanWarning,
            stacklevel=3,
        )
        return None


def stored_threads(path: Path) -> int | None:
    """How many CPU threads the run in a folder began with; None where it does not say."""
    threads = (read_config(path) or {}).get(_THREADS)
    if threads is None or (isinstance(threads, int) and not isinstance(threads, bool) and threads >= 1):
        return threads
    raise DataError(f"{path / 'config.yaml'} has {_THREADS}: {threads!r}, which is no number of threads: mend it")


def load_config(path: Path) -> dict[str, Any]:
    """The configuration of a run, or an error that says what is missing."""
    config = read_config(path)
    if config is None:
        raise ConfigError(f"{path} is no folder of a run (config.yaml is missing): give the --out of a training")
    try:
        _Stored.model_validate(config)
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"]))
        raise DataError(
            f"{path / 'config.yaml'} is no configuration of a run ({where}: {found['msg'].lower()}): put it back"
        ) from None
    return config


class _StoredInput(BaseModel):
    shape: list[Annotated[int, Field(ge=1, strict=True)]] = Field(min_length=1)
    classes: list[str] = Field(min_length=1)
    preprocessing: dict[str, Any]


class _Stored(BaseModel):
    """What every configuration of a run has, whatever its format."""

    model: str
    seed: Annotated[int, Field(strict=True)]
    budget: str
    data: dict[str, Any]
    plan: dict[str, Any]
    settings: dict[str, Any]
    input: _StoredInput


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a run, one an epoch; see ``read_json_lines``."""
    return read_json_lines(path / "metrics.jsonl")


def describe_differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Where two configurations differ, as ``name: old -> new``.

    >>> describe_differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    ['b.c: 2 -> 3']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in dict.fromkeys([*old, *new])
            for line in describe_differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if old == new else [f"{name}: {_in_short(old)} -> {_in_short(new)}"]


def in_words(differences: list[str]) -> str:
    """Differences for a sentence: the first of them, and how many more there are."""
    more = f", and {len(differences) - _LISTED} more" if len(differences) > _LISTED else ""
    return ", ".join(differences[:_LISTED]) + more


def _in_short(value: Any) -> str:
    text = repr(value) if isinstance(value, (dict, list, tuple)) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
