"""The sources' figures, drawn from our runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lessonplan.data import load
from lessonplan.files import remove_leftovers, write_json
from lessonplan.lab.examples import mixed_images
from lessonplan.lab.recipe import FigureSpec, Part, Recipe
from lessonplan.lab.surfaces import surfaces
from lessonplan.mix import SumAugment
from lessonplan.mix.functional import gcc
from lessonplan.report import file_stem, save_png
from lessonplan.train.run_folder import read_metrics

_SIZE = (7.0, 4.0)


def write_figures(folder: Path, recipe: Recipe, part: Part, results: dict[str, Any]) -> None:
    """Write ``figures/*.png`` with titles and captions for the page."""
    remove_leftovers(folder / "figures")
    for position, spec in enumerate(recipe.figures):
        drawn = _draw(spec, part, results, folder)
        if drawn is None:
            continue
        figure, caption = drawn
        stem = f"{position:02d}-{file_stem(spec.title)[:40]}"
        write_json(folder / "figures" / f"{stem}.json", {"title": spec.title, "caption": caption})
        save_png(figure, folder / "figures" / f"{stem}.png")


def _draw(spec: FigureSpec, part: Part, results: dict[str, Any], folder: Path) -> tuple[Figure, str] | None:
    methods = [m for m in results["methods"] if not spec.methods or m["name"] in spec.methods]
    if spec.kind == "gcc":
        return _coefficients(spec.k)
    if spec.kind == "mixed":
        data = load(part.data, **{**part.data_options, "seed": 0})
        figure = mixed_images(SumAugment(spec.k), data)
        return (figure, f"Averages of {spec.k} training images and their labels.") if figure is not None else None
    if spec.kind == "norm":
        return _norms(methods, folder)
    if spec.kind == "surface":
        return surfaces(methods, part, folder)
    return _error_reductions(methods, results)


def _coefficients(n: int) -> tuple[Figure, str]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    t = np.linspace(0, 1, 401)
    values = np.stack([gcc(n, float(v)).numpy() for v in t])
    for i in range(n):
        axes.plot(t, values[:, i], label=f"image {i + 1}")
    axes.set(xlabel="t, share of the cascade", ylabel="coefficient", ylim=(-0.02, 1.02))
    axes.legend(frameon=False)
    return figure, f"Coefficients of the {n} images, GCC_{n}(t), in the form that the thesis prints."


def _norms(methods: list[dict[str, Any]], folder: Path) -> tuple[Figure, str]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    for index, method in enumerate(methods):
        for run in method["runs"]:
            records = read_metrics(folder / run["folder"])
            steps = [record["step"] for record in records]
            norms = [record["param_norm"] for record in records]
            label = method["name"] if run is method["runs"][0] else None
            axes.plot(steps, norms, color=f"C{index}", alpha=0.8, linewidth=1.2, label=label)
    axes.set(xlabel="updates", ylabel="L2 norm of the parameters")
    axes.legend(frameon=False)
    return figure, "One line a run: all parameters of the network, after each epoch."


def _error_reductions(methods: list[dict[str, Any]], results: dict[str, Any]) -> tuple[Figure, str] | None:
    reference = next(m for m in results["methods"] if m["name"] == results["reference"])
    others = [m for m in methods if m is not reference and m["mean"] is not None]
    if reference["mean"] is None or not others:
        return None
    error = 1 - reference["mean"]
    reductions = [100 * (m["mean"] - reference["mean"]) / error for m in others]
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([m["name"] for m in others], reductions)
    axes.bar_label(bars, fmt="%.1f%%", padding=3)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel=f"error reduction against {reference['name']} (%)")
    return figure, f"Share of the test error of {reference['name']} ({100 * error:.2f}%) that each method removes."
