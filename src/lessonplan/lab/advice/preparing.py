"""Before the first round: how long each run may be, and whether there is room for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError
from lessonplan.lab.advice.allowance import Allowance
from lessonplan.lab.advice.field import PLAIN
from lessonplan.lab.advice.labelled import Labelled
from lessonplan.lab.advice.length import is_chosen, lengths, stretch, whole, with_length
from lessonplan.lab.advice.measuring import measured
from lessonplan.lab.advice.pace import Pace
from lessonplan.lab.advice.record import Record
from lessonplan.lab.executor import Executor
from lessonplan.lab.plan_file import PlanFile, plan_from
from lessonplan.report.formatting import compact, duration
from lessonplan.settings import Settings

_PAGES = 6.0  # seconds for pages and files at the end
_CHECKPOINTS = (
    8  # times a network's weights that a run has on the disk: two checkpoints with the optimizer's state
)
_ROOM = 50 * 2**20


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
        paces = measured(record, entries, source, executor, threads, root, say)
        _choose(record, [e for e in entries if e.name in paces], paces, source, allowance, each, workers, say)
    budgeted = {
        name: plan_from(about["content"], name)
        for name, about in record.plans.items()
        if about.get("pace") is not None and about.get("budgeted")
    }
    _check_disk(record, workers, root)
    return budgeted, lambda prices: _end(prices, record, allowance, workers)


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
