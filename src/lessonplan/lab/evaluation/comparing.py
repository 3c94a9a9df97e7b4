"""The numbers of evaluations over the runs of a comparison: means, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lessonplan.lab.statistics import Difference, correct_together, paired_p_value, t_interval

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of each method's runs."""


def compare_evaluations(rows: Rows, reference: str, level: float) -> dict[str, dict[str, Any]]:
    """For each method its numbers by name: n, mean, t interval and paired difference to the reference.

    P-values are corrected for the number of methods (Holm), for each number by itself.

    Args:
        rows: the rows of ``results.json``, with ``"evaluation"`` where a run was evaluated.
        reference: the method that the others are compared with.
        level: confidence level of the intervals.

    Returns:
        for each method, for each number a mapping; nothing at all if no run was evaluated.
    """
    measures = list(
        dict.fromkeys(name for runs in rows.values() for run in runs for name in run.get("evaluation") or {})
    )
    found: dict[str, dict[str, Any]] = {method: {} for method in rows}
    for measure in measures:
        scores = {method: _scores(runs, measure) for method, runs in rows.items()}
        others = {method: values for method, values in scores.items() if method != reference}
        differences = _differences(scores.get(reference, {}), others, level)
        for method, by_seed in scores.items():
            if not by_seed:
                continue
            values, difference = list(by_seed.values()), differences.get(method)
            found[method][measure] = {
                "n": len(values),
                "mean": float(np.mean(values)),
                "ci_t": t_interval(values, level),
                "difference": asdict(difference) if difference is not None else None,
            }
    return found if measures else {}


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the numbers of its evaluation and its choices beside the others, for a table of plain columns.

    >>> flat({"seed": 0, "evaluation": {"pgd_accuracy": 0.5}})
    {'seed': 0, 'pgd_accuracy': 0.5}
    """
    plain = {name: value for name, value in row.items() if name not in ("evaluation", "choices")}
    choices = {
        f"choices_{name}": value for name, value in (row.get("choices") or {}).items() if name != "by_class"
    }
    return {**plain, **(row.get("evaluation") or {}), **choices}


def _differences(
    reference: Mapping[int, float], methods: Mapping[str, Mapping[int, float]], level: float
) -> dict[str, Difference]:
    """Paired differences without a bootstrap: there are too many numbers for one each."""
    found = {}
    for method, by_seed in methods.items():
        values = [value - reference[seed] for seed, value in by_seed.items() if seed in reference]
        if values:
            interval, p = t_interval(values, level), paired_p_value(values)
            found[method] = Difference(float(np.mean(values)), len(values), interval, None, p)
    return correct_together(found, level)


def _scores(runs: Sequence[Mapping[str, Any]], measure: str) -> dict[int, float]:
    """A number by seed."""
    return {
        run["seed"]: value
        for run in sorted(runs, key=lambda run: int(run["seed"]))
        if (value := (run.get("evaluation") or {}).get(measure)) is not None
    }
