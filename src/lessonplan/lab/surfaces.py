"""What networks predict on a plane: the lecture's figure of plain training and mixup (its page 9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lessonplan.data import Data, load
from lessonplan.errors import ConfigError
from lessonplan.lab.recipe import Part
from lessonplan.train.classifier import load as load_run

_POINTS = 120  # of the grid, along each side
_MARGIN = 0.15  # of the range of the samples, around them
_COLOURS = ("#00805f", "#d55e00")


def surfaces(methods: list[dict[str, Any]], part: Part, folder: Path) -> tuple[Figure, str] | None:
    """A picture a method: p(second class) over the plane, and the training samples, of its first finished seed.

    Args:
        methods: of ``results.json``.
        part: whose data have two features and two classes.
        folder: of the comparison, with its runs.

    Raises:
        ConfigError: the data are no points of a plane, or of more than two classes.
    """
    runs = [(m["name"], next((r for r in m["runs"] if r["status"] == "finished"), None)) for m in methods]
    finished = [(name, run) for name, run in runs if run is not None]
    if not finished:
        return None
    lines = -(-len(finished) // 2)
    figure = Figure(figsize=(8.4, 3.3 * lines), layout="constrained")
    grid = figure.subplots(lines, 2, squeeze=False).flatten()
    for axes in grid[len(finished) :]:
        axes.set_axis_off()
    for axes, (name, run) in zip(grid, finished, strict=False):
        data = load(part.data, **{**part.data_options, "seed": run["seed"]})
        rows, labels = points_of(data)
        x, y, p = surface(folder / run["folder"], rows)
        axes.contourf(x, y, p, levels=np.linspace(0, 1, 21), cmap="Blues")
        axes.contour(x, y, p, levels=[0.5], colors="0.2", linewidths=1.0)
        for label, colour in enumerate(_COLOURS):
            at = rows[labels == label]
            axes.scatter(at[:, 0], at[:, 1], s=14, color=colour, edgecolors="white", linewidths=0.4)
        axes.set(title=name, xticks=[], yticks=[], aspect="equal")
    names = data.class_names
    return figure, (
        f"Shading: the probability of {names[1]} (orange; {names[0]} is green), from 0, white, to 1, dark; the"
        f" line is where it is one half. Points are the training samples of seed {finished[0][1]['seed']}."
    )


def points_of(data: Data) -> tuple[Tensor, Tensor]:
    """The training samples ``(N, 2)`` as they are in the data, and their labels.

    Raises:
        ConfigError: they are no points of a plane, or of more than two classes.
    """
    if tuple(data.shape) != (2,) or data.num_classes != 2:
        raise ConfigError(
            f"a surface needs samples of 2 features and 2 classes, and these have the shape {tuple(data.shape)}"
            f" and {data.num_classes} classes: give table:moons, or a csv with two columns beside the label"
        )
    return data.train.raw(torch.arange(len(data.train))).float(), data.train.labels


def surface(run: Path, rows: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The probability of the second class on a grid around samples.

    Args:
        run: folder of a finished run.
        rows: ``(N, 2)``, the samples.

    Returns:
        the grid's coordinates along both sides, ``(G,)`` each, and ``(G, G)`` probabilities, a row a second
        coordinate.
    """
    low, high = rows.min(0).values, rows.max(0).values
    room = _MARGIN * (high - low)
    x, y = (torch.linspace(float(a), float(b), _POINTS) for a, b in zip(low - room, high + room, strict=True))
    at = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    p = load_run(run).predict(at)[:, 1]
    return x.numpy(), y.numpy(), p.reshape(_POINTS, _POINTS).numpy()
