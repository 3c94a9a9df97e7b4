"""The nine panels of a run that was judged on its whole training set (ASSIST section 4.1, figures 4.1 to 4.8).

What a selection trains on says little of the training set, so this is measured apart: without augmentation, with
the network as it is at each validation.
"""

from __future__ import annotations

from markupsafe import Markup

from lessonplan.report import run_plots
from lessonplan.report.axes import EPOCHS
from lessonplan.report.palette import Style, style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Json, Run, known_at

_TRAINED = ("train_set", "training set", style(2))
_HELD_OUT = (("val", "validation set", style(1)), ("test", "test set", style(1)))
_MEASURES = (
    ("accuracy", "Accuracy", "accuracy (%)", 100.0),
    ("loss", "Mean loss", "loss", 1.0),
    ("loss_q90", "90% quantile of the loss", "loss", 1.0),
    ("loss_worst", "Worst loss", "loss", 1.0),
)


def held_out(run: Run) -> tuple[str, str, Style]:
    """Key, name and look of what stands beside the training set: validation, else test data that were watched."""
    return next((part for part in _HELD_OUT if run.has(part[0])), _HELD_OUT[0])


def sets_of(run: Run) -> tuple[tuple[str, str, Style], ...]:
    """The training set and what stands beside it."""
    return (_TRAINED, held_out(run))


def set_panels(run: Run) -> list[Panel]:
    """Accuracy, mean, 90% quantile and worst loss of both sets, their ratios, and the wall clock."""
    if not run.has("train_set"):
        return []
    values = {key: panel(title, "", _both(run, key, label, factor)) for key, title, label, factor in _MEASURES}
    ratios = {key: panel(f"{title}: ratio", "", _ratio(run, key)) for key, title, _, _ in _MEASURES}
    clock = run_plots.curves(
        [(("training", *run.curve("system", "seconds", against=EPOCHS)), style(0))],
        name="clock",
        ylabel="seconds",
        axis=EPOCHS,
        narrow=True,
    )
    losses = [key for key, *_ in _MEASURES if key != "accuracy"]
    return [
        *values["accuracy"],
        *ratios["accuracy"],
        *panel("Wall clock", "", clock),
        *(found for key in losses for found in values[key]),
        *(found for key in losses for found in ratios[key]),
    ]


def _both(run: Run, key: str, ylabel: str, factor: float) -> Markup | None:
    series = [((word, *run.curve(part, key, against=EPOCHS)), look) for part, word, look in sets_of(run)]
    name = f"sets-{key.replace('_', '-')}"
    return run_plots.curves(series, name=name, ylabel=ylabel, factor=factor, axis=EPOCHS, narrow=True)


def _ratio(run: Run, key: str) -> Markup | None:
    part, word, _ = held_out(run)
    label = f"{word.removesuffix(' set')} / training"

    def ratio(line: Json) -> float | None:
        trained, seen = known_at(line, "train_set", key), known_at(line, part, key)
        return seen / trained if trained and seen is not None else None

    series = [((label, *run.points(ratio, EPOCHS)), style(3))]
    name = f"sets-ratio-{key.replace('_', '-')}"
    return run_plots.curves(series, name=name, ylabel=label, axis=EPOCHS, narrow=True, line_at=1.0)
