"""The file of a tournament, ``advice.json``: what it is, what was decided at every look, what it took."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError, DataError
from lessonplan.files import write_json
from lessonplan.train.run_folder import describe_differences

FILE = "advice.json"


@dataclass
class Record:
    """Everything that is known of a tournament beside its runs.

    Attributes:
        identity: what may not change from one part to the next.
        plans: by name what was chosen for each plan: ``content`` (see ``PlanFile.content``), ``pace``, and
            ``left_out``, the reason, where it cannot run; ``suspected`` where it ended a part by what may have
            been the machine's fault.
        together: rows of near copies, group by group, that no round takes apart; as the first part found them.
        sizes: of the data: classes, labelled samples, those that a round trains on, test samples.
        seconds: wall-clock time of all parts so far.
        rung: rounds after which plans last left.
        running: contenders that are not out.
        looks: for each look its rounds, and who left with the reason.
        standing: by contender what the last look said, see ``Tournament``.
        final: the training on all labelled samples, and what test data said.
        readings: names of the plans whose networks were judged on test data, in that order.
        verdict: see ``verdict_of``.
        allowance: what was allowed last: ``total`` and ``unit``; ``spent`` of it when the last part ended.
    """

    identity: dict[str, Any]
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    together: list[list[int]] = field(default_factory=list)
    sizes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    rung: int = 0
    running: list[str] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    standing: dict[str, dict[str, Any]] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)
    readings: list[str] = field(default_factory=list)
    verdict: dict[str, Any] = field(default_factory=dict)
    allowance: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def store(self, folder: Path) -> None:
        """Write it, in one step."""
        write_json(folder / FILE, {"schema": 1, **asdict(self)})

    def left_out(self, name: str, reason: str) -> None:
        """A plan cannot run on these data."""
        self.plans.setdefault(name, {})["left_out"] = reason
        self.running = [other for other in self.running if other != name]


def read_record(folder: Path) -> Record | None:
    """The record in a folder, or None where there is none.

    Raises:
        DataError: it is damaged, or of a layout this version does not know.
    """
    file = folder / FILE
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.pop("schema") != 1:
            raise ValueError("of another layout")
        return Record(**found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{file} is damaged or of another version ({error}): give another folder") from None


def check_same(record: Record, identity: dict[str, Any], folder: Path) -> None:
    """Whether a folder's tournament is the one that is asked for.

    Raises:
        ConfigError: data, plans or settings differ; what does is named.
    """
    theirs, ours = record.identity, json.loads(json.dumps(identity))
    if theirs == ours:
        return
    if {**theirs, "fingerprint": ours["fingerprint"]} == ours:
        raise ConfigError(
            f"the data {ours['data']} changed since the first part of {folder}: their samples or labels are others"
            " now, and rounds on both cannot be paired; put them back, or give another folder"
        )
    differences = ", ".join(describe_differences(theirs, ours))
    raise ConfigError(f"{folder} holds a tournament of another configuration ({differences}): give another folder")
