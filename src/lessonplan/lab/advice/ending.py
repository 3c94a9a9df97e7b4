"""After the decision: the named plan trained on all labelled samples, and test data, read once a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from lessonplan.errors import RunFailed
from lessonplan.lab.advice.field import PLAIN
from lessonplan.lab.advice.length import on_all
from lessonplan.lab.advice.tournament import Tournament
from lessonplan.lab.advice.trial import Trial
from lessonplan.lab.plan_file import PlanFile
from lessonplan.lab.progress import RunCounter
from lessonplan.lab.statistics import t_interval

MODEL, REFERENCE, PLAN = "model", "reference", "plan.yaml"


def final_plan(tournament: Tournament, name: str) -> PlanFile:
    """A plan as it is trained on all labelled samples: as many passes over each of them as in a round, or more."""
    entry, about = tournament.entries[name], tournament.record.plans[name]
    assert entry.budget is not None
    ratio = tournament.stretch(name) * about["at_end"] / about["in_round"]
    return PlanFile(entry.method, entry.model, on_all(entry.budget, ratio))


def train_named(tournament: Tournament, name: str) -> dict[str, Any]:
    """Train what the verdict names, and plain training beside it where there are test data to compare them on.

    A network that was trained by an earlier part is taken as it is; that of another plan is moved aside.

    Returns:
        ``plan``, ``folder``, its ``budget``, and ``test`` where there is a test part: accuracies of both, the
        paired difference with its t interval over the test samples.

    Raises:
        RunFailed: a training failed.
    """
    record, root = tournament.record, tournament.root
    before = record.final.get("plan")
    if before is not None and before != name and (root / MODEL).exists():
        number = next(n for n in range(1, 1000) if not (root / f"{MODEL}-{n}").exists())
        (root / MODEL).rename(root / f"{MODEL}-{number}")
    if before != name:
        record.final = {"plan": name}
        record.store(root)
    tested = record.sizes["test"] > 0
    wanted = {MODEL: name, **({REFERENCE: PLAIN} if tested and name != PLAIN else {})}
    trials = {}
    for folder, plan in wanted.items():
        entry = final_plan(tournament, plan)
        decides = record.plans[plan]["decides"]
        trials[folder] = Trial(entry, None, root / folder, tournament.labelled, tournament.threads, decides)
    errors: dict[str, str] = {}

    def report(trial: Trial, error: str | None) -> None:
        counter.finished(trial.entry.name, error)
        if error is not None:
            errors[trial.entry.name] = error

    waiting = [trial for trial in trials.values() if not trial.finished]
    if waiting:
        with RunCounter(len(trials), len(trials) - len(waiting), "trainings on all samples") as counter:
            tournament.executor.run(waiting, report)
    if errors:
        told = "; ".join(f"{plan}: {error}" for plan, error in errors.items())
        raise RunFailed(f"the training on all labelled samples failed ({told}): run the same command again")
    if tested:
        record.readings += [plan for plan in wanted.values() if plan not in record.readings]
    entry = trials[MODEL].entry
    entry.write(root / PLAN)
    found = {"plan": name, "folder": MODEL, "budget": entry.budget, "stretch": tournament.stretch(name)}
    return {
        **found,
        "test": _tested({folder: trial.outcome() for folder, trial in trials.items()}) if tested else None,
    }


def _tested(outcomes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    right = {folder: np.array(outcome["right"], float) for folder, outcome in outcomes.items()}
    found: dict[str, Any] = {"samples": len(right[MODEL]), MODEL: float(right[MODEL].mean())}
    if REFERENCE in right:
        difference = right[MODEL] - right[REFERENCE]
        found |= {
            REFERENCE: float(right[REFERENCE].mean()),
            "mean": float(difference.mean()),
            "interval": t_interval(difference.tolist()),
        }
    return found
