"""What a search found, in sentences."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lessonplan.report.formatting import MISSING, count, duration, percent, points
from lessonplan.report.reading import Json

_METRICS = {
    "accuracy": "validation accuracy",
    "loss": "validation loss",
    "balanced-accuracy": "balanced validation accuracy",
    "macro-f1": "macro F1 on validation samples",
}


def metric_name(watch: str) -> str:
    """What is searched for."""
    return _METRICS.get(watch, watch)


def score_text(score: Any, watch: str) -> str:
    """A score as it is read: shares in percent, losses as they are.

    >>> score_text(0.8123, "accuracy"), score_text(-0.5, "loss")
    ('81.23%', '0.5000')
    """
    if score is None:
        return MISSING
    return f"{-float(score):.4f}" if watch == "loss" else f"{percent(score)}%"


def values_text(values: Mapping[str, Any]) -> str:
    """The values of a trial.

    >>> values_text({"lr": 0.01, "mix.k": 4})
    'lr=0.01, mix.k=4'
    """
    return ", ".join(f"{name}={value_text(value)}" for name, value in values.items())


def value_text(value: Any) -> str:
    """A value as it is written in a plan."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def best_of(record: Json) -> int | None:
    """Number of the best trial, from 0, the first of equals."""
    done = [(trial["score"], -number) for number, trial in enumerate(record["trials"]) if over(trial)]
    return -max(done)[1] if done else None


def over(trial: Json) -> bool:
    """Whether a trial has a score."""
    return trial.get("score") is not None


def sentences(record: Json, folder: Path) -> list[str]:
    """What was found, what it is worth, what to do next."""
    watch, splits = record["identity"]["watch"], record["identity"]["splits"]
    best, done = best_of(record), sum(map(over, record["trials"]))
    failed = [number for number, trial in enumerate(record["trials"]) if trial.get("error")]
    if best is None:
        return ["No trial is over yet." if not failed else f"None of {len(failed)} trials could be trained."]
    trial = record["trials"][best]
    mean = f", the mean of {splits} splits and seeds" if splits > 1 else ""
    found = [
        f"The best of {count(done)} trials is number {best + 1}: {values_text(trial['values'])}, with a"
        f" {metric_name(watch)} of {score_text(trial['score'], watch)}{mean}."
    ]
    if done > 1:
        found.append(_optimism(record, done))
    if record.get("importance"):
        ranked = sorted(record["importance"].items(), key=lambda pair: -pair[1])
        shares = ", ".join(f"{name} {percent(share, 0)}%" for name, share in ranked)
        found.append(f"Shares of what tells good trials from others: {shares} (of {done} trials; a rough guide).")
    if failed:
        error = record["trials"][failed[0]]["error"]
        numbers = ", ".join(str(number + 1) for number in failed)
        found.append(f"Trials that could not be trained count as the worst: {numbers} (the first: {error}).")
    return found


def _optimism(record: Json, done: int) -> str:
    loss = record["identity"]["watch"] == "loss"
    said = f"That score is optimistic: it was picked from {done} for being the {'lowest' if loss else 'highest'}"
    if record.get("optimism") is not None and not loss:
        by = points(max(record["optimism"], 0.0)).lstrip("+")
        said += f" (by some {by} points, as picking without each split in turn and scoring there says)"
    return (
        f"{said}. Compare the plan with what you had on fresh seeds before you believe in it; no test sample was"
        " read."
    )


def commands(record: Json, folder: Path) -> list[tuple[str, str]]:
    """What to do next, each with its command line; none without a best trial, or for data given in Python."""
    identity = record["identity"]
    if best_of(record) is None or identity["data"].endswith(" given in Python"):
        return []
    data = ["--data", identity["data"]]
    for name, value in {**identity["options"], "val_fraction": identity["val_fraction"]}.items():
        if value is not None:
            data += [f"--{name.replace('_', '-')}", str(value)]
    given, best = str(folder / "given.yaml"), str(folder / "best.yaml")
    compare = ["compare", *data, "--plan", given, best, "--reference", identity["plan"]["name"]]
    compare += ["--seeds", ",".join(str(identity["seed"] + 100 + n) for n in range(10)), "--out", "compared"]
    train = ["train", *data, "--plan", best, "--seed", str(identity["seed"]), "--out", "trained"]
    return [
        ("Compare it with the plan as it was, on fresh seeds", shlex.join(["lessonplan", *compare])),
        ("Train it", shlex.join(["lessonplan", *train])),
    ]


def time_of(record: Json) -> str:
    """What all runs took together."""
    return duration(sum(trial.get("seconds") or 0.0 for trial in record["trials"]))
