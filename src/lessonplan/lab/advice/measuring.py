"""Before the first round: which plans can run on these data, and what runs take where they will be done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from lessonplan.data import Data
from lessonplan.data.resplit import labelled as labelled_rows
from lessonplan.errors import ConfigError, LessonplanError, RunFailed
from lessonplan.files import write_json
from lessonplan.lab.advice.field import PLAIN
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.advice.pace import Pace, measure
from lessonplan.lab.advice.record import Record
from lessonplan.lab.executor import Executor
from lessonplan.lab.plan_file import PlanFile
from lessonplan.lab.task import Mishap, reason
from lessonplan.progress import step
from lessonplan.report.formatting import shown
from lessonplan.settings import Settings
from lessonplan.stored import read_json
from lessonplan.train.preparation import check_run

_FOLDER, _PACE = ".measured", "pace.json"
# settings that change what an update does, not what it takes
_SAME_PACE = ("lr", "weight_decay", "label_smoothing")


@dataclass
class Measurement:
    """A plan's pace, found by the executor that will do its runs, as a job.

    Args:
        entry: the plan.
        labelled: the samples.
        threads: CPU threads where the plan names none.
        decides: whether the plan decides by validation.
        folder: for what is found.
    """

    entry: PlanFile
    labelled: Labelled
    threads: int
    decides: bool
    folder: Path

    @property
    def label(self) -> str:
        """For progress and logs."""
        return f"{self.entry.name}, measured"

    def do(self) -> None:
        """Train a few updates."""
        assert self.entry.model is not None
        data = self.labelled.opened(self.entry.model, Settings.make(**self.entry.method.settings))
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.txt").open("a") as log, redirect_stderr(log):
            pace = measure(self.entry, self.labelled.of_round(data, 0, decides=self.decides), self.threads)
        write_json(self.folder / _PACE, pace.as_json())

    def found(self) -> Pace:
        """What was measured."""
        return Pace(**read_json(self.folder / _PACE))


def measured(
    record: Record,
    entries: Sequence[PlanFile],
    source: Labelled,
    executor: Executor,
    threads: int,
    root: Path,
    say: Callable[[str], None],
) -> dict[str, Pace]:
    """What a run of each plan takes, by name; plans that cannot run are left out and named.

    Raises:
        ConfigError: plain training cannot run, or nothing else can.
        RunFailed: the machine kept a plan from being tried.
    """
    paces: dict[str, Pace] = {}
    errors: dict[str, str] = {}
    by_name = {entry.name: entry for entry in entries}
    alike: dict[str, list[str]] = {}

    def possible() -> Iterator[Measurement]:
        # those that select score whole batches first and take longest: begun first, no process waits for them
        for number, entry in enumerate(sorted(entries, key=lambda entry: entry.method.plan.select is None)):
            try:
                decides = _look_at(record, entry, source)
            except (LessonplanError, RuntimeError, MemoryError) as error:
                errors[entry.name] = reason(error)
                line.update(advance=1)
                continue
            others = alike.setdefault(_of_pace(entry), [])
            others.append(entry.name)
            if len(others) > 1:
                line.update(advance=1)
            else:
                yield Measurement(entry, source, threads, decides, root / _FOLDER / str(number))

    def report(job: Measurement, error: str | None) -> None:
        if error is None:
            paces[job.entry.name] = job.found()
        else:
            errors[job.entry.name] = error
        line.update(advance=1, what=shown(job.label))

    line = step("measuring plans", len(entries), "plans", patience=0.0)
    try:
        with line:
            executor.run(possible(), report)
    finally:
        shutil.rmtree(root / _FOLDER, ignore_errors=True)
    for first, *others in alike.values():
        paces |= {name: paces[first] for name in others if first in paces}
        errors |= {name: errors[first] for name in others if first in errors}
    for name, pace in paces.items():
        record.plans[name]["pace"] = pace.as_json()
    for name in [name for name in by_name if name in errors]:
        _leave_out(record, by_name[name], errors[name], say)
    record.plans = {name: record.plans[name] for name in by_name}
    if len(paces) < 2:
        raise ConfigError(
            "no plan but plain training can run on these data ("
            + "; ".join(f"{n}: {a['left_out']}" for n, a in record.plans.items() if a.get("left_out"))
            + "): give others with plans"
        )
    return paces


def _of_pace(entry: PlanFile) -> str:
    """What a plan's pace depends on: all but numbers that change what an update does, and not what it takes."""
    content = entry.content()
    settings = {name: value for name, value in content.get("settings", {}).items() if name not in _SAME_PACE}
    return json.dumps({**content, "name": None, "settings": settings}, sort_keys=True, default=str)


def _look_at(record: Record, entry: PlanFile, source: Labelled) -> bool:
    """Note what the plan is trained on; whether it decides by validation.

    Raises:
        ConfigError: it cannot run on these data.
    """
    settings = Settings.make(**entry.method.settings)
    assert entry.model is not None
    data = source.opened(entry.model, settings)
    decides = _decides(entry, source, data, settings)
    first = source.of_round(data, 0, decides=decides)
    check_run(entry.method.fresh_plan(), first, settings, source.seed)
    if entry.name == PLAIN:
        test = len(data.test) if data.test is not None else 0
        classes = list(data.class_names)
        least = int(data.train.labels.bincount(minlength=len(classes)).min())
        record.sizes = {
            "classes": classes,
            "labelled": len(labelled_rows(data)),
            "train": len(first.train),
            "test": test,
            "least": least,
            "own_validation": data.val is not None,
        }
    record.plans[entry.name] = {
        "content": entry.content(),
        "decides": decides,
        "in_round": len(first.train),
        "at_end": len(source.whole(data, decides=decides).train),
        "what": entry.method.describe(),
    }
    return decides


def _leave_out(record: Record, entry: PlanFile, error: str, say: Callable[[str], None]) -> None:
    """Name a plan that cannot run.

    Raises:
        RunFailed: the machine kept it from being tried. ConfigError: it is plain training.
    """
    if isinstance(error, Mishap):
        raise RunFailed(
            f"{entry.name} could not be tried: {error}; mend that and give the same command again, or name other"
            " plans with plans"
        )
    why = " ".join(error.split())
    if entry.name == PLAIN:
        raise ConfigError(f"plain training cannot run on these data: {why}")
    say(f"{entry.name} is left out: {why}")
    record.plans[entry.name] = {"content": entry.content()}
    record.left_out(entry.name, why)


def _decides(entry: PlanFile, source: Labelled, data: Data, settings: Settings) -> bool:
    """Whether the plan cannot do without validation samples, and can with them."""
    possible = []
    for decides in (False, True):
        try:
            check_run(entry.method.fresh_plan(), source.of_round(data, 0, decides=decides), settings, source.seed)
        except ConfigError:
            continue
        possible.append(decides)
    return possible == [True]
