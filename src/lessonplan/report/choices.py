"""How often selection chose each training sample: the same ones again and again, and of which classes?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import bdtr, pdtr

from lessonplan.report.choice_plots import class_bars, count_bars
from lessonplan.report.formatting import count, fixed, number, percent
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Json

MOST_CLASSES = 30  # rows of the table by class; of more, those that were chosen most


def top_tenth_at_random(samples: int, choices: int, epochs: float) -> float | None:
    """What share of the choices the most chosen tenth would have if each choice had been random.

    A sample's count is then binomial: in each begun epoch it is chosen once with the same probability; Poisson
    where samples were chosen more often than epochs went by. None without a choice.

    >>> top_tenth_at_random(1000, 5000, 5.0)  # all of them in each of five epochs
    0.1
    >>> round(top_tenth_at_random(1000, 200, 1.0), 6)  # a tenth of a fifth, once
    0.5
    """
    rounds, mean = math.ceil(epochs), choices / samples if samples else 0.0
    if not mean:
        return None
    p = mean / max(rounds, 1)
    most = int(mean + 12 * math.sqrt(mean) + 12) if p > 1 else rounds
    k = np.arange(most + 1)
    above = 1 - (pdtr(k, mean) if p > 1 else bdtr(k, rounds, p))  # P(count > k)
    # The mean over the top tenth is the sum over k of how much of that tenth lies above k.
    return float(np.minimum(above, 0.1).sum() / mean)


def choice_panels(result: Json) -> list[Panel]:
    """Of a run: how many samples were chosen how often, and how often those of each class."""
    found = result.get("choices")
    if not isinstance(found, dict) or not found.get("choices"):
        return []
    by_class = known(found.get("by_class"))
    histogram = [(int(low), int(high), int(n)) for low, high, n in found.get("histogram") or []]
    return panel(
        "How often a sample was chosen", "Training samples by the number of updates that they were in.",
        count_bars(histogram, "choices"),
    ) + panel(
        "By class", "How often a sample of each class was chosen, on average.",
        class_bars(by_class, "choices-by-class"),
    )  # fmt: skip


def known(by_class: Any) -> dict[str, float]:
    """The classes that have a number."""
    pairs = by_class.items() if isinstance(by_class, dict) else ()
    return {str(name): value for name, given in pairs if (value := number(given)) is not None}


def choice_sentence(result: Json) -> str:
    """The same in words; empty where nothing was counted.

    >>> found = {"samples": 1000, "choices": 200, "never": 0.8, "top_tenth": 0.5, "gini": 0.8}
    >>> choice_sentence({"choices": found, "epochs": 1.0}).partition(";")[0]
    'The tenth of the samples that was chosen most got 50.0% of the choices (at random: 50.0%)'
    """
    found = result.get("choices")
    if not isinstance(found, dict) or not found.get("choices"):
        return ""
    share = percent(found.get("top_tenth"), 1)
    text = f"The tenth of the samples that was chosen most got {share}% of the choices"
    random = _at_random(found, result.get("epochs"))
    text += f" (at random: {percent(random, 1)}%)" if random is not None else ""
    return f"{text}; {percent(found.get('never'), 1)}% of the samples were never chosen."


def _at_random(found: Json, epochs: Any) -> float | None:
    samples, choices, lasted = (number(value) for value in (found.get("samples"), found.get("choices"), epochs))
    if samples is None or choices is None or lasted is None:
        return None
    return top_tenth_at_random(int(samples), int(choices), lasted)


def choice_tables(methods: Sequence[Json]) -> list[dict[str, Any]]:
    """Of a comparison: a row a method that selects, then a row a class; means over seeds."""
    chosen = {method["name"]: _of_runs(method) for method in methods}
    chosen = {name: runs for name, runs in chosen.items() if runs}
    if not chosen:
        return []
    columns = (
        "choices a sample",
        "most chosen tenth, % of choices",
        "at random",
        "never chosen, % of samples",
        "Gini",
    )
    rows = [
        [
            name,
            fixed(_mean([_each(found) for found, _ in runs]), 2),
            percent(_mean([number(found.get("top_tenth")) for found, _ in runs]), 1),
            percent(_mean([_at_random(found, epochs) for found, epochs in runs]), 1),
            percent(_mean([number(found.get("never")) for found, _ in runs]), 1),
            fixed(_mean([number(found.get("gini")) for found, _ in runs]), 3),
        ]
        for name, runs in chosen.items()
    ]
    about = (
        "How often updates held each training sample. The most chosen tenth of the samples has a larger share than"
        " at random where the same samples are chosen again and again. Means over seeds."
    )
    return [_table("How often each sample was chosen", about, "method", columns, rows), *_by_class(chosen)]


def _by_class(chosen: dict[str, list[tuple[Json, Any]]]) -> list[dict[str, Any]]:
    means: dict[str, dict[str, float]] = {}
    for method, runs in chosen.items():
        for name in dict.fromkeys(name for found, _ in runs for name in known(found.get("by_class"))):
            value = _mean([known(found.get("by_class")).get(name) for found, _ in runs])
            if value is not None:
                means.setdefault(name, {})[method] = value
    if not means:
        return []
    names = list(means)
    about = "Choices of a sample of each class, mean over its samples and over seeds."
    if len(names) > MOST_CLASSES:
        about += f" Of {count(len(names))} classes the {MOST_CLASSES} that were chosen most."
        names = sorted(names, key=lambda name: -max(means[name].values()))[:MOST_CLASSES]
    rows = [[name, *(fixed(means[name].get(method), 2) for method in chosen)] for name in names]
    return [_table("Choices by class", about, "class", tuple(chosen), rows)]


def _table(title: str, about: str, first: str, columns: Sequence[str], rows: list[list[str]]) -> dict[str, Any]:
    kinds = [("text", first), *(("number", column) for column in columns)]
    return {
        "title": title, "about": about, "label": title, "caption": "", "sortable": True, "rows": rows,
        "columns": [{"kind": kind, "title": name, "note": ""} for kind, name in kinds],
    }  # fmt: skip


def _of_runs(method: Json) -> list[tuple[Json, Any]]:
    runs = [run for run in method.get("runs") or [] if isinstance(run.get("choices"), dict)]
    return [(run["choices"], run.get("epochs")) for run in runs if run["choices"].get("choices")]


def _each(found: Json) -> float | None:
    samples, choices = number(found.get("samples")), number(found.get("choices"))
    return choices / samples if samples and choices is not None else None


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
