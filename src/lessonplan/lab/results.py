"""From stored runs to the table of a comparison."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from lessonplan.files import read_json_lines, write_atomically, write_json
from lessonplan.lab.config import Comparison
from lessonplan.lab.evaluation.comparing import compare_evaluations, flat
from lessonplan.lab.job import Job, evaluation_row
from lessonplan.lab.statistics import Difference, bootstrap_interval, compare_paired, t_interval
from lessonplan.measures import BALANCED, COUNTERS, JUDGED, OF_TEST, OF_TRAINING, RUN_COLUMNS
from lessonplan.report.at_chance import judged_agreement
from lessonplan.report.at_features import MIXED, mixes_features
from lessonplan.report.reading import known_at
from lessonplan.shown import notebook_html
from lessonplan.train.run_folder import read_result
from lessonplan.train.usage import environment


class Results(dict[str, Any]):
    """What ``results.json`` holds: a dictionary that a notebook shows as a table with its intervals."""

    _repr_html_ = notebook_html


_KEYS = ("method", "seed", "status")
_FOUND = (*RUN_COLUMNS, "stopped")
_NOTES = ("folder", "error")


def run_row(job: Job, root: Path, error: str | None) -> dict[str, Any]:
    """What the table says of one run."""
    row: dict[str, Any] = {
        "seed": job.seed,
        "status": "failed",
        "folder": job.folder.relative_to(root).as_posix(),
        "error": error,
    }
    result = read_result(job.folder)
    if result is None:
        return {**row, "status": "failed" if error else "waiting", **dict.fromkeys(_FOUND)}
    return {
        **row,
        "status": "failed" if error else "finished",
        **({"evaluation": evaluation_row(job)} if job.evaluation is not None else {}),
        **_judged(result, "test", "test"),
        **{name: (result.get("test") or {}).get(name.removeprefix("test_")) for name in BALANCED},
        "val_accuracy": result.get("val", {}).get("accuracy"),
        "fluctuation": fluctuation(job.folder),
        **_judged(result, "train_set", "train"),
        **{name: result.get(name) for name in COUNTERS},
        "stopped": result.get("stopped"),
        **({"classes": len(result["class_names"])} if result.get("class_names") else {}),
        **({"batch_size": result["batch_size"]} if result.get("batch_size") else {}),
        **({"at": "features"} if result.get("at") == "features" else {}),
        **_choices(result),
        **_at_chance(result),
    }


def _choices(result: dict[str, Any]) -> dict[str, Any]:
    """How often selection chose each sample, without the histogram; nothing of a run that did not select."""
    found = result.get("choices")
    return {"choices": {k: v for k, v in found.items() if k != "histogram"}} if isinstance(found, dict) else {}


def _at_chance(result: dict[str, Any]) -> dict[str, bool]:
    """Said only of a network whose answers agree with the labels no more than chance would."""
    found = judged_agreement(result)
    return {"at_chance": True} if found is not None and found[1].at_chance else {}


def _judged(result: dict[str, Any], part: str, prefix: str) -> dict[str, float | None]:
    """Accuracy and losses of a part of the data, where it was judged."""
    found = result.get(part) or {}
    return {f"{prefix}_{name}": found.get(name) for name in JUDGED}


def fluctuation(folder: Path) -> float | None:
    """How much a run's validation accuracy changes from one validation to the next, the mean of absolute changes.

    Args:
        folder: of the run.

    Returns:
        a share in [0, 1]; None with fewer than two validations.
    """
    records = read_json_lines(folder / "metrics.jsonl", containing=b'"val": ')
    values = [value for record in records if (value := known_at(record, "val", "accuracy")) is not None]
    if len(values) < 2:
        return None
    return float(np.abs(np.diff(values)).mean())


def summarise(
    title: str,
    comparison: Comparison,
    reference: str,
    jobs: Sequence[Job],
    errors: dict[Path, str],
    row_of: Callable[[Job, str | None], dict[str, Any]],
) -> Results:
    """Everything ``results.json`` holds.

    Args:
        title, comparison, reference: see ``compare``.
        jobs: all runs.
        errors: what went wrong, by folder.
        row_of: gives a run's row, see ``run_row``.
    """
    names = list(dict.fromkeys(job.method.name for job in jobs))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for job in jobs:
        rows[job.method.name].append(row_of(job, errors.get(job.folder)))
    scores = {
        name: {r["seed"]: r["test_accuracy"] for r in of_name if r["test_accuracy"] is not None}
        for name, of_name in rows.items()
    }
    others = {name: s for name, s in scores.items() if name != reference}
    differences = compare_paired(scores.get(reference, {}), others, comparison.level)
    methods_of = {job.method.name: job.method for job in jobs}
    descriptions = {name: method.describe() for name, method in methods_of.items()}
    watching = list(dict.fromkeys(job.method.name for job in jobs if job.watches_test))
    evaluations = compare_evaluations(rows, reference, comparison.level)
    methods = [
        _method(name, descriptions[name], rows[name], scores[name], differences.get(name), reference, comparison)
        for name in names
    ]
    for method in methods:
        method |= {"evaluation": evaluations[method["name"]]} if evaluations else {}
        finished = [run for run in method["runs"] if run["status"] == "finished"]
        if mixes_features(methods_of[method["name"]].plan.mix is not None, finished):
            method["mixes"] = "features"
            method["finding"] += f" {MIXED}"
    found = {
        "schema": 1,
        "title": title,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "reference": reference,
        "metric": "test_accuracy",
        "level": comparison.level,
        "config": {**comparison.model_dump(mode="json"), "methods": descriptions},
        "environment": environment(),
        "methods": methods,
        **({"watched_test": watching} if watching else {}),
        "failures": [
            {"method": name, "seed": r["seed"], "error": r["error"], "folder": r["folder"]}
            for name in names
            for r in rows[name]
            if r["status"] == "failed"
        ],
    }
    return Results(found)


def _method(
    name: str,
    description: str,
    rows: list[dict[str, Any]],
    scores: dict[int, float],
    difference: Difference | None,
    reference: str,
    comparison: Comparison,
) -> dict[str, Any]:
    values = [scores[seed] for seed in sorted(scores)]
    finished = [r for r in rows if r["status"] == "finished"]
    return {
        "name": name,
        "description": description,
        "runs": rows,
        "n": len(values),
        "mean": float(np.mean(values)) if values else None,
        "ci_t": t_interval(values, comparison.level),
        "ci_bootstrap": bootstrap_interval(values, comparison.level),
        **{key: _mean([r[key] for r in finished]) for key in (*OF_TEST[1:], *BALANCED, *OF_TRAINING, *COUNTERS)},
        "difference": asdict(difference) if difference is not None else None,
        "finding": finding(name, values, difference, reference, len(rows)) + _of_chance(finished),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def finding(name: str, values: Sequence[float], difference: Difference | None, reference: str, runs: int) -> str:
    """One sentence: what the runs say of a method, and what they do not."""
    if not values:
        return f"{name}: none of {runs} runs finished."
    score = f"{name} reaches {100 * float(np.mean(values)):.2f}% on test data over {_seeds(len(values))}"
    if name == reference:
        return f"{score}; it is the reference."
    if difference is None:
        return f"{score}; it shares no seed with {reference}, so nothing can be said of the difference."
    points = 100 * difference.mean
    if difference.ci_t is None:
        return f"{score}, {points:+.2f} points against {reference}; one seed decides nothing."
    low, high = (100 * bound for bound in difference.ci_t)
    interval = f"({low:+.2f} to {high:+.2f})"
    if difference.verdict == "undecided":
        because = "" if low <= 0 <= high else f" (Holm p = {difference.p_holm:.2g})"
        return f"{score}; its difference to {reference}, {points:+.2f} points {interval}, is undecided{because}."
    return f"{score}, {abs(points):.2f} points {difference.verdict} than {reference} {interval}."


def _of_chance(finished: Sequence[dict[str, Any]]) -> str:
    """How many runs learned nothing, as a sentence to go on with."""
    lost = sum(bool(row.get("at_chance")) for row in finished)
    if not lost:
        return ""
    of = "its run" if len(finished) == 1 else f"{lost} of {len(finished)} runs"
    return f" In {of} answers agree with the labels no more than chance would."


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def write_results(root: Path, results: dict[str, Any]) -> None:
    """Write ``results.json`` and ``results.csv``."""
    write_json(root / "results.json", results)
    buffer = io.StringIO()
    rows = [{"method": method["name"], **flat(row)} for method in results["methods"] for row in method["runs"]]
    more = sorted({name for row in rows for name in row} - {*_KEYS, *_FOUND, *_NOTES})
    writer = csv.DictWriter(buffer, [*_KEYS, *_FOUND, *more, *_NOTES], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(root / "results.csv", buffer.getvalue().encode())
