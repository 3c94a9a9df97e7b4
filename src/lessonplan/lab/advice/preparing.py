"""Before the first round: who can run at all, what a run takes, and how long each may be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessonplan.data import Data
from lessonplan.data.resplit import labelled as labelled_rows
from lessonplan.errors import ConfigError, LessonplanError, RunFailed
from lessonplan.files import write_json
from lessonplan.lab.advice.allowance import Allowance
from lessonplan.lab.advice.field import PLAIN
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.advice.length import is_chosen, lengths, stretch, whole, with_length
from lessonplan.lab.advice.pace import Pace, measure
from lessonplan.lab.advice.record import Record
from lessonplan.lab.executor import Executor
from lessonplan.lab.plan_file import PlanFile, plan_from
from lessonplan.lab.task import Mishap, reason
from lessonplan.report.formatting import compact, duration
from lessonplan.settings import Settings
from lessonplan.stored import read_json
from lessonplan.train.preparation import check_run

_PAGES = 6.0  # seconds for pages and files at the end
_CHECKPOINTS = (
    8  # times a network's weights that a run has on the disk: two checkpoints with the optimizer's state
)
_ROOM = 50 * 2**20
_MEASURED, _PACE = "measured", "pace.json"
_NUMBERS = ("lr", "weight_decay", "label_smoothing")


def prepare_plans(
    record: Record,
    entries: Sequence[PlanFile],
    source: Labelled,
    allowance: Allowance,
    each: str | None,
    executor: Executor,
    threads: int,
    workers: int,
    root: Path,
    say: Callable[[str], None],
) -> tuple[dict[str, PlanFile], Callable[[Sequence[float]], float]]:
    """The plans with their budgets, the reference first; later parts of a tournament take those of the first.

    Plans that cannot run on these data, and those at the field's end that do not fit, are left out and named.

    Returns:
        the plans by name; and what to keep for the training at the end, in seconds or cost, from what runs of the
        plans that are in would take there on a round's samples, that of the reference first.

    Raises:
        ConfigError: plain training cannot run, or not even the smallest tournament fits; or the disk is full.
        RunFailed: the machine kept a plan from being tried (disk, memory).
    """
    if not record.plans:
        root.mkdir(parents=True, exist_ok=True)
        paces = _measured(record, entries, source, executor, threads, root, say)
        _choose(record, [e for e in entries if e.name in paces], paces, source, allowance, each, workers, say)
    budgeted = {
        name: plan_from(about["content"], name)
        for name, about in record.plans.items()
        if about.get("pace") is not None and about.get("budgeted")
    }
    _check_disk(record, workers, root)
    return budgeted, lambda prices: _end(prices, record, allowance, workers)


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


def _measured(
    record: Record,
    entries: Sequence[PlanFile],
    source: Labelled,
    executor: Executor,
    threads: int,
    root: Path,
    say: Callable[[str], None],
) -> dict[str, Pace]:
    """What a run of each plan takes; plans that cannot run are left out."""
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
                continue
            others = alike.setdefault(_of_pace(entry), [])
            others.append(entry.name)
            if len(others) == 1:
                yield Measurement(entry, source, threads, decides, root / _MEASURED / str(number))

    def report(job: Measurement, error: str | None) -> None:
        if error is None:
            paces[job.entry.name] = job.found()
        else:
            errors[job.entry.name] = error

    try:
        executor.run(possible(), report)
    finally:
        shutil.rmtree(root / _MEASURED, ignore_errors=True)
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
    settings = {name: value for name, value in content.get("settings", {}).items() if name not in _NUMBERS}
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


def _choose(
    record: Record,
    entries: Sequence[PlanFile],
    paces: dict[str, Pace],
    source: Labelled,
    allowance: Allowance,
    each: str | None,
    workers: int,
    say: Callable[[str], None],
) -> None:
    """The longest runs that fit; where the shortest do not, a smaller field."""
    samples = record.sizes["train"]
    pretrained = Settings.make(**entries[0].method.settings).weights is not None
    choices = lengths(samples, pretrained) if each is None and entries[0].budget is None else [0.0]

    def price(entry: PlanFile) -> float:
        assert entry.budget is not None
        pace = paces[entry.name]
        return pace.price(entry.budget) if allowance.unit == "cost" else pace.time(entry.budget)

    def stretches(field: Sequence[PlanFile], epochs: float) -> dict[str, float]:
        end = max(price(entry) for entry in field) * record.sizes["labelled"] / samples
        longer = stretch(epochs, pretrained, end, allowance.total) if epochs else 1.0
        chosen = {entry.name for entry in entries if is_chosen(entry, each)}
        return {entry.name: longer if entry.name in chosen else 1.0 for entry in field}

    def takes(field: Sequence[PlanFile], longer: Mapping[str, float]) -> float:
        rounds = whole(price, field[0], field[1:])
        end = _end([price(e) * longer[e.name] for e in field], record, allowance, workers)
        return (rounds if allowance.unit == "cost" else rounds / workers) + end

    left = allowance.total - (0.0 if allowance.unit == "cost" else allowance.seconds)
    for size in range(len(entries), 1, -1):
        for epochs in choices:
            field = [with_length(entry, epochs, samples, each) for entry in entries[:size]]
            longer = stretches(field, epochs)
            if takes(field, longer) <= left:
                for entry in field:
                    told = {"content": entry.content(), "budgeted": True, "stretch": longer[entry.name]}
                    record.plans[entry.name] |= told
                for entry in entries[size:]:
                    reason = "the time does not suffice for so many plans"
                    say(f"{entry.name} is left out: {reason}")
                    record.left_out(entry.name, reason)
                record.running = [entry.name for entry in field[1:]]
                seconds = paces[PLAIN].time(field[0].budget or "")
                say(f"each run of plain training: {field[0].budget}, {duration(seconds)}")
                return
    field = [with_length(entry, choices[-1], samples, each) for entry in entries[:2]]
    spend = allowance.total + takes(field, dict.fromkeys((entry.name for entry in field), 1.0)) - left
    one, least = price(field[0]), 1.05 * spend
    shown: Callable[[Any], str] = duration if allowance.unit == "seconds" else lambda v: f"{compact(v)} cost"
    raise ConfigError(
        f"{shown(allowance.total)} is too short: the shortest run of plain training that says something"
        f" ({field[0].budget}) takes {shown(one)}, and the smallest tournament, with {field[1].name} alone beside"
        f" it, {shown(least)}: give at least that, or a smaller network, smaller images, or shorter runs with each"
    )


def _end(prices: Sequence[float], record: Record, allowance: Allowance, workers: int) -> float:
    """What training on all labelled samples takes at most: the dearest plan, and the first, the reference."""
    ratio: float = record.sizes["labelled"] / record.sizes["train"]
    both = [max(prices), *([prices[0]] if record.sizes["test"] else [])]
    if allowance.unit == "cost":
        return ratio * sum(both)
    return ratio * (max(both) if workers > 1 else sum(both)) + _PAGES


def _check_disk(record: Record, workers: int, root: Path) -> None:
    size = max(about["pace"]["size"] for about in record.plans.values() if about.get("pace"))
    wanted = _CHECKPOINTS * size * (workers + 1) + _ROOM
    free = shutil.disk_usage(root).free
    if free < wanted:
        raise ConfigError(
            f"{root} has {free / 2**20:.0f} MB of free disk space, and {wanted / 2**20:.0f} MB may be needed for"
            f" {workers} runs at a time: free some, or give fewer jobs"
        )
