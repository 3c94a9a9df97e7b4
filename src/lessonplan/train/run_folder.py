"""The folder of a run: configuration, metrics, checkpoints, weights, result."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.files import disk_error, read_json_lines, remove_leftovers, write_atomically, write_json
from lessonplan.train.budget import Budget
from lessonplan.train.checkpoint import Checkpoints
from lessonplan.train.identity import as_format_1


class RunFolder:
    """Reads and writes what a run leaves on the disk.

    ``config.yaml`` says what the run is, ``metrics.jsonl`` has a line an epoch, ``checkpoints/`` what a resume
    needs; ``weights.safetensors``, ``predictions.csv`` and ``mistakes.json`` (what it says of every sample of the
    test part, or without one of the validation part) and ``result.json`` are written at the end, the latter last.

    Args:
        path: the folder; ``claim`` makes it.
        config: the run's identity.

    Attributes:
        spent: the shorter budget of the finished run in the folder that this one goes on from, or None.

    Raises:
        ConfigError: the folder holds a run of another configuration; the differences are named.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = json.loads(json.dumps(config))
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.metrics = path / "metrics.jsonl"
        existing = read_config(path)
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path} is a file: give a folder for the run")
        self.spent = self._spent(existing)
        if self.spent is None and existing is not None and existing not in (self.config, as_format_1(self.config)):
            differences = ", ".join(describe_differences(existing, self.config))
            raise ConfigError(
                f"{path} holds a run of another configuration ({differences}):"
                " give another folder, or the same settings to resume"
            )

    def _spent(self, existing: dict[str, Any] | None) -> str | None:
        """The budget of a finished run that differs from this one in a shorter budget of the same unit, else
        None."""
        if (
            existing is None
            or {**existing, "budget": self.config["budget"]} != self.config
            or self.result() is None
        ):
            return None
        before, now = Budget.parse(existing["budget"]), Budget.parse(self.config["budget"])
        return str(before) if before.unit == now.unit and before.amount < now.amount else None

    def claim(self) -> None:
        """Write the configuration, once everything was checked: from here on the folder belongs to this run.

        A finished run that goes on with a longer budget is unfinished from here on; what it had reached is kept in
        ``continued.json``.
        """
        if self.spent is not None:
            write_json(
                self.path / "continued.json", [*self._before(), {"budget": self.spent, **(self.result() or {})}]
            )
            write_atomically(self.path / "config.yaml", yaml.safe_dump(self.config, sort_keys=False).encode())
            (self.path / "result.json").unlink(missing_ok=True)
            self.spent = None
        if not (self.path / "config.yaml").exists():
            write_atomically(self.path / "config.yaml", yaml.safe_dump(self.config, sort_keys=False).encode())
        remove_leftovers(self.path)
        remove_leftovers(self.checkpoints.folder)

    def result(self) -> dict[str, Any] | None:
        """The result, if the run is finished."""
        file = self.path / "result.json"
        return json.loads(file.read_text()) if file.exists() else None

    def _before(self) -> list[dict[str, Any]]:
        """The results of the shorter budgets that it went on from."""
        file = self.path / "continued.json"
        found: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
        return found

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add an epoch's line."""
        try:
            with self.metrics.open("a") as file:
                file.write(json.dumps(record) + "\n")
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
        if not self.metrics.exists():
            return []
        with self.metrics.open("rb+") as file:
            file.truncate(length)
        return read_metrics(self.path)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result: from here on the run is finished."""
        if self._before():
            result["continued"] = [before["budget"] for before in self._before()]
        write_json(self.path / "result.json", result)


def read_config(path: Path) -> dict[str, Any] | None:
    """The configuration of a run's folder, or None where there is none."""
    file = path / "config.yaml"
    if not file.exists():
        return None
    config = yaml.safe_load(file.read_text())
    if not isinstance(config, dict):
        raise LessonplanError(f"{file} is no configuration of a run: give the folder of a run")
    return config


def load_config(path: Path) -> dict[str, Any]:
    """The configuration of a run, or an error that says what is missing."""
    config = read_config(path)
    if config is None:
        raise ConfigError(f"{path} is no folder of a run (config.yaml is missing): give the --out of a training")
    return config


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
    return [] if old == new else [f"{name}: {old} -> {new}"]
