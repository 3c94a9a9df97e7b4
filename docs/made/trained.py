"""Pictures about pretrained weights and the six ideas: what trains, and what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import lessonplan as lp
from lessonplan.pretrained.head import find_head
from lessonplan.train.tuning import Tune, Tuning, stages
from made.looks import GREY, INK, ORANGE, PALE, TEAL, charts, save

RESULTS = Path(__file__).parents[2] / "results"
SHOWN = {
    "mixup": "mixup", "cascade": "cascade from 4", "gradual": "gradual from 4", "cutmix": "CutMix",
    "manifold": "manifold mixup", "puzzle": "Puzzle Mix",
    "filter": "accuracy filter", "infobatch": "InfoBatch", "logreg": "logistic regression", "ncm": "class means",
}  # fmt: skip
NUMBERS = re.compile(r"([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)\)")


def differences(ax: Axes, rows: list[tuple[str, float, float, float]]) -> None:
    """Points with intervals, one below the other, beside a line at 0."""
    for place, (_, mean, low, high) in enumerate(reversed(rows)):
        colour = TEAL if low > 0 else ORANGE if high < 0 else GREY
        ax.plot([low, high], [place, place], color=colour, linewidth=2.4)
        ax.plot([mean], [place], "o", color=colour, markersize=6)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(range(len(rows)), [name for name, *_ in reversed(rows)])


def probe(folder: Path) -> None:
    """What was measured against the plain probe, at three numbers of labels."""
    figure, axes = charts(3.4, 3, sharey=True)
    found: dict[int, dict[str, Any]] = {}
    for labels in (5, 20, 80):
        told = json.loads((RESULTS / "pretrained-few-labels" / f"probe {labels}" / "results.json").read_text())
        found[labels] = {m["name"]: m["difference"] for m in told["methods"] if m["difference"] is not None}
    for ax, (labels, by_name) in zip(axes, found.items(), strict=True):
        rows = [
            (SHOWN[name], *(100 * v for v in (by_name[name]["mean"], *by_name[name]["ci_t"]))) for name in SHOWN
        ]
        differences(ax, rows)
        ax.set(title=f"{labels} a class", xlim=(-17.5, 4.5), xticks=[-10, 0])
    figure.supxlabel("points against the plain probe, 95% intervals", fontsize=11)
    save(figure, "probe", folder)


def ideas(folder: Path) -> None:
    """The table of the benchmark as points and intervals."""
    text = (RESULTS / "benchmarks" / "ideas.txt").read_text().partition("ideas.py --lr")[0]
    rows = []
    for line in text.splitlines():
        number = NUMBERS.search(line)
        if number:
            name = line.strip("│ ").partition("│")[0].strip()
            rows.append((name, *(float(value) for value in number.groups())))
    figure, (ax,) = charts(3.2)
    differences(ax, rows)
    figure.supxlabel("points against plain training, 95% intervals", fontsize=11)
    save(figure, "ideas", folder)


def fine_tuning(folder: Path) -> None:
    """Which stages of a network train, by what is given."""
    model = lp.models.build_model("wrn-16-1", shape=(3, 32, 32), num_classes=10, seed=0)
    parts = stages(model, find_head(model))
    rows: list[tuple[str, list[float]]] = []
    for text, progress in (
        *(("all", 0.0), ("head", 0.0), ("last:2", 0.0), ("norm", 0.0)),
        *(("gradual:parts=4,until=0.5", share) for share in (0.0, 0.25, 0.5)),
    ):  # fmt: skip
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        tuning = Tuning(model, Tune.parse(text))
        tuning.advance(progress)
        shares = [
            sum(p.numel() for p in part if p.requires_grad) / max(1, sum(p.numel() for p in part))
            for part in parts
        ]
        when = f" at {progress:.0%}" if text.startswith("gradual") else ""
        rows.append((f"{text.partition(':')[0] if when else text}{when}", shares))
    figure, (ax,) = charts(2.8)
    for place, (_, shares) in enumerate(reversed(rows)):
        for stage, share in enumerate(shares):
            colour = TEAL if share == 1 else "#8fc7c0" if share > 0 else "#f1f1f1"
            ax.add_patch(_box(stage, place, colour))
    ax.set(xlim=(-0.05, len(parts)), ylim=(-0.1, len(rows)))
    ax.set_yticks(np.arange(len(rows)) + 0.45, [name for name, _ in reversed(rows)])
    ax.set_xticks([0.5, len(parts) - 0.5], ["first stage", "head"])
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_title("dark: trains; light: its normalisations do; empty: stays", fontsize=11)
    save(figure, "fine-tuning", folder)


def _box(stage: float, place: float, colour: str) -> Rectangle:
    return Rectangle((stage, place), 0.92, 0.86, facecolor=colour, edgecolor=PALE)


PICTURES = {"probe": probe, "fine-tuning": fine_tuning, "ideas": ideas}
"""What draws the picture of each card."""
