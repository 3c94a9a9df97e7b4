"""What a comparison's page says: its figures, its answer in words and its tables, ready for the template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lessonplan.kept_metrics import read_kept
from lessonplan.measures import BALANCED
from lessonplan.report import plots
from lessonplan.report.at_features import of_features
from lessonplan.report.axes import COST
from lessonplan.report.batches import different_batches
from lessonplan.report.choices import choice_tables
from lessonplan.report.comparison_classes import class_section
from lessonplan.report.comparison_curves import curve_axes
from lessonplan.report.comparison_evaluation import evaluation_rows
from lessonplan.report.formatting import count, listing, number
from lessonplan.report.palette import Style, styles
from lessonplan.report.panels import Panel, legend_entries, panel
from lessonplan.report.pictures import read_pictures
from lessonplan.report.reading import Json, Run, inside, read_json_if_there, read_run
from lessonplan.report.train_test import MEASURES, backward_differs, cells, measured
from lessonplan.report.watched import comparison_note


def _stored_runs(folder: Path, methods: Sequence[Json]) -> dict[str, list[Run]]:
    """The runs whose curves count: finished ones, and where a method has none, whatever there is."""
    stored = {}

    @cache
    def kept() -> dict[str, list[Json]]:
        return read_kept(folder)

    for method in methods:
        runs = method.get("runs") or []
        chosen = [run for run in runs if run.get("status") == "finished"] or runs
        read = [_read(folder, run.get("folder"), kept) for run in chosen]
        stored[method["name"]] = [run for run in read if run is not None]
    return stored


def _read(folder: Path, name: Any, kept: Callable[[], dict[str, list[Json]]]) -> Run | None:
    """A run from its folder, or where that was left behind from the metrics that the comparison keeps."""
    path = inside(folder, name)
    if path is not None:
        return read_run(path)
    return Run(folder / str(name), epochs=kept()[name]) if name in kept() else None


def _score_panels(methods: Sequence[Json], reference: str | None, looks: dict[str, Style]) -> list[Panel]:
    panels = panel(
        "Final scores",
        "Each dot is one seed; the diamond is the mean, the line its interval (an arrow: it goes on).",
        plots.final_scores(methods, looks),
    )
    if reference is None:
        return panels
    return panels + panel(
        "Paired differences",
        f"The same seed's score minus that of {reference}. Right of zero is better; an interval that "
        "crosses zero decides nothing.",
        plots.paired_differences(methods, reference, looks),
    )


def _cost_panels(methods: Sequence[Json], looks: dict[str, Style]) -> list[Panel]:
    panels = panel(
        "Cost per run",
        "Forward pass of one sample 1, backward pass 2. Mean over seeds.",
        plots.bars(methods, "cost", looks, name="cost", xlabel=COST.label),
    ) + panel(
        "Time per run",
        "Wall-clock seconds, mean over seeds. Runs that share a machine slow each other down.",
        plots.bars(methods, "seconds", looks, name="seconds", xlabel="seconds"),
    )
    if not backward_differs(methods):
        return panels
    return (
        panels
        + panel(
            "Samples forwarded",
            "For scores and for training, mean over seeds.",
            plots.bars(methods, "forwarded", looks, name="forwarded", xlabel="samples forwarded"),
        )
        + panel(
            "Samples backpropagated",
            "Those that the network was updated with, mean over seeds.",
            plots.bars(methods, "backpropagated", looks, name="backpropagated", xlabel="samples backpropagated"),
        )
    )


def answer(methods: Sequence[Json], reference: str | None) -> str:
    """The comparison's outcome in one or two sentences, from the verdicts alone.

    >>> erm = {"name": "erm", "n": 5, "cost": 9e4, "difference": None}
    >>> mixup = {"name": "mixup", "n": 5, "cost": 9e4, "difference": {"verdict": "better"}}
    >>> answer([erm, mixup], "erm")
    'Against erm, mixup did better. Every method had the same cost (90,000 forward passes per run).'
    """
    groups: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for method in methods:
        verdict = (method.get("difference") or {}).get("verdict")
        if verdict in groups:
            groups[verdict].append(method["name"])
    clauses = [f"{listing(groups[word])} did {word}" for word in ("better", "worse") if groups[word]]
    if groups["undecided"]:
        several = len(groups["undecided"]) > 1
        clauses.append(f"{listing(groups['undecided'])} {'are' if several else 'is'} undecided")
    if clauses and reference is not None:
        text = f"Against {reference}, {'; '.join(clauses)}."
    else:
        text = "Nothing can be decided yet: that takes two finished seeds of a method and of the reference."
    unit = "forward passes per run"
    costs = [cost for method in methods if (cost := number(method.get("cost"))) is not None]
    if len(costs) > 1 and max(costs) > 0:
        if max(costs) <= 1.01 * min(costs):
            exact = "the same" if max(costs) == min(costs) else "nearly the same"
            text += f" Every method had {exact} cost ({count(sum(costs) / len(costs))} {unit})."
        else:
            text += f" Costs differ: from {count(min(costs))} to {count(max(costs))} {unit}."
    batches = different_batches(methods)
    return f"{text} {batches}" if batches else text


def _link(folder: Path, relative: Any) -> str | None:
    """The relative address of a run's page, of its folder if it has no page, None if it has neither."""
    path = inside(folder, relative)
    if path is None:
        return None
    address = quote(path.relative_to(folder.resolve()).as_posix())
    return f"{address}/index.html" if (path / "index.html").is_file() else f"{address}/"


def _file_link(folder: Path, relative: Any, name: str) -> str | None:
    """The relative address of a file of a run, None without one."""
    path = inside(folder, relative)
    if path is None or not (path / name).is_file():
        return None
    return f"{quote(path.relative_to(folder.resolve()).as_posix())}/{name}"


def comparison_context(folder: Path, results: Json) -> dict[str, Any]:
    """Everything the template ``comparison.html`` shows.

    Args:
        folder: the comparison's folder.
        results: its ``results.json`` (see :func:`lessonplan.report.reading.read_results`).
    """
    methods: list[Json] = results["methods"]
    names = [method["name"] for method in methods]
    reference = results.get("reference") if results.get("reference") in names else None
    looks = styles(names, reference)
    level = number(results.get("level")) or 0.95
    runs = [
        {
            **run,
            "method": method["name"],
            "link": _link(folder, run.get("folder")),
            "predictions": _file_link(folder, run.get("folder"), "predictions.csv"),
        }
        for method in methods
        for run in method.get("runs") or []
    ]
    failures = [
        {**failure, "link": _link(folder, failure.get("folder"))} for failure in results.get("failures") or []
    ]
    stored = _stored_runs(folder, methods)
    return {
        "title": str(results.get("title") or "Comparison"),
        "created": str(results.get("created") or ""),
        "answer": answer(methods, reference),
        "watched": comparison_note(
            results, [name for name, of in stored.items() if any(r.has("test") for r in of)]
        ),
        "methods": methods,
        "of_features": of_features(methods),
        "reference": reference,
        "looks": looks,
        "legend": legend_entries(list(looks.items())),
        "level": f"{100 * level:g}%",
        "alpha": f"{1 - level:.2g}",
        "seeds": sorted({str(run.get("seed")) for run in runs}),
        "runs": runs,
        "failures": failures,
        "source": read_json_if_there(folder / "source.json"),
        "curves": curve_axes(stored, looks, level),
        "choices": choice_tables(methods),
        "train_test": {
            "measures": [title for title, *_ in MEASURES],
            "rows": [{"name": method["name"], "cells": cells(method)} for method in methods],
        }
        if measured(methods)
        else None,
        "balanced": {
            key: title
            for key, title in BALANCED.items()
            if any(number(method.get(key)) is not None for method in methods)
        },
        "evaluated": evaluation_rows(methods),
        "classes": class_section(folder, methods, reference, looks, level),
        "backward_differs": backward_differs(methods),
        "scores": _score_panels(methods, reference, looks),
        "costs": _cost_panels(methods, looks),
        "examples": read_pictures(folder / "examples", names),
        "figures": read_pictures(folder / "figures"),
        "config": results.get("config") or {},
        "environment": results.get("environment") or {},
        "downloads": [name for name in ("results.csv", "results.json") if (folder / name).is_file()],
    }
