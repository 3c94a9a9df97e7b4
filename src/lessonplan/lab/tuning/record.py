"""The file of a search, ``tune.json``: what it is, and every trial."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError, DataError
from lessonplan.files import write_json
from lessonplan.train.run_folder import describe_differences

FILE = "tune.json"


@dataclass
class Record:
    """Everything that is known of a search beside its runs.

    Attributes:
        identity: what may not change from one part to the next.
        trials: in order; each has ``values`` by name, ``scores`` (one a split), ``score`` (their mean, None where
            a run failed), ``seconds``, ``cost``, and ``error``, the reason, where a run failed; before that
            ``suspected`` where it ended a command by what may have been the machine's fault.
        wanted: how many trials were asked for last.
        importance: share of each number, or None, see ``importances``.
        optimism: what picking the best adds to its score, see ``lab/advice/optimism.py``; None where not known.
        environment: see ``usage.environment``.
    """

    identity: dict[str, Any]
    trials: list[dict[str, Any]] = field(default_factory=list)
    wanted: int = 0
    importance: dict[str, float] | None = None
    optimism: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)

    def store(self, folder: Path) -> None:
        """Write it, in one step."""
        write_json(folder / FILE, {"schema": 1, **asdict(self)})

    @property
    def best(self) -> int | None:
        """Number of the best trial, the first of equals; None before any succeeded."""
        done = [number for number, trial in enumerate(self.trials) if trial.get("score") is not None]
        return max(done, key=lambda number: (self.trials[number]["score"], -number), default=None)


def read_record(folder: Path, identity: dict[str, Any]) -> Record:
    """The record in a folder, or a new one.

    Raises:
        DataError: it is damaged, or of a layout this version does not know. ConfigError: it is of another search.
    """
    file, ours = folder / FILE, json.loads(json.dumps(identity))
    if not file.exists():
        return Record(ours)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.pop("schema") != 1:
            raise ValueError("of another layout")
        record = Record(**found)
        for trial in record.trials:
            dict(trial["values"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{file} is damaged or of another version ({error}): give another folder") from None
    if record.identity != ours:
        differences = ", ".join(describe_differences(record.identity, ours))
        raise ConfigError(f"{folder} holds a search of another configuration ({differences}): give another folder")
    return record
