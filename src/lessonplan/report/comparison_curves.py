"""A comparison's learning curves: all against cost, two of them against what tells another story."""

from __future__ import annotations

from collections.abc import Iterable

from lessonplan.report import plots
from lessonplan.report.axes import COST, PASSES, SECONDS, UPDATES, Axis
from lessonplan.report.bands import Band, mean_band
from lessonplan.report.palette import Style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Run

_SAME_WITHIN = 1.02
_OTHERS = (
    (UPDATES, "at equal updates"),
    (PASSES, "at equal sample passes"),
    (SECONDS, "at equal time"),
)

Stored = dict[str, list[Run]]


def curve_panels(stored: Stored, looks: dict[str, Style], level: float) -> list[Panel]:
    """Accuracy, losses and the norm of the weights against cost."""
    part = _part(stored)
    where = "Validation" if part == "val" else "Training"
    mixed = "" if part == "val" else " Measured on the samples as they were trained on, mixed ones included."
    shown = [
        (
            f"{where} accuracy",
            "Mean over seeds." + mixed,
            (part, "accuracy"),
            f"{where.lower()} accuracy (%)",
        ),
        (f"{where} loss", "Mean over seeds." + mixed, (part, "loss"), f"{where.lower()} loss"),
        ("Norm of the weights", "L2 norm of all parameters, mean over seeds.", ("param_norm",), "L2 norm"),
    ]
    if part == "val":
        caption = (
            "Measured on the samples as they were trained on: mixed, or selected for being hard. Levels are not"
            " comparable between methods."
        )
        shown.insert(2, ("Training loss", caption, ("train", "loss"), "training loss"))
    panels = []
    for title, caption, keys, ylabel in shown:
        bands = _bands(stored, level, *keys)
        name = "curve-" + "-".join(keys).replace("_", "-")
        svg = plots.learning_curves(bands, looks, name=name, ylabel=ylabel, as_percent=keys[-1] == "accuracy")
        panels += panel(title, caption, svg)
    return panels


def other_axes_panels(stored: Stored, looks: dict[str, Style], level: float) -> list[Panel]:
    """Accuracy and loss against updates, sample passes and seconds, of those that are not cost in other units."""
    part = _part(stored)
    where = "validation" if part == "val" else "training"
    axes = [(axis, words) for axis, words in _OTHERS if differs_from_cost(stored, axis)]
    panels = []
    for measure in ("accuracy", "loss"):
        for axis, words in axes:
            bands = _bands(stored, level, part, measure, against=axis)
            percent = measure == "accuracy"
            svg = plots.learning_curves(
                bands, looks, name=f"curve-{measure}-{axis.name}", as_percent=percent, axis=axis, narrow=True,
                ylabel=f"{where} {measure}" + (" (%)" if percent else ""),
            )  # fmt: skip
            panels += panel(f"{measure.capitalize()} {words}", "", svg)
    return panels


def differs_from_cost(stored: Stored, axis: Axis) -> bool:
    """Whether an axis would show curves shifted against each other, in comparison with cost."""
    factors = []
    for run in _all(stored):
        x, cost = run.curve("cost", against=axis)
        if len(x) and cost[-1] > 0 and x[-1] > 0:
            factors.append(x[-1] / cost[-1])
    return len(factors) > 1 and max(factors) > _SAME_WITHIN * min(factors)


def _bands(stored: Stored, level: float, *keys: str, against: Axis = COST) -> dict[str, Band]:
    """Per method the band of one value, of the methods that have it."""
    bands = {
        name: mean_band([run.curve(*keys, against=against) for run in runs], level)
        for name, runs in stored.items()
    }
    return {name: band for name, band in bands.items() if band is not None}


def _part(stored: Stored) -> str:
    """Validation where there is any, else training."""
    return "val" if any(len(run.curve("val", "accuracy")[0]) for run in _all(stored)) else "train"


def _all(stored: Stored) -> Iterable[Run]:
    return (run for runs in stored.values() for run in runs)
