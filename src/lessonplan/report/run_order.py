"""What ordering did, epoch by epoch: when it was on, what it gained, how well cheap scores did."""

from __future__ import annotations

from lessonplan.report import run_plots
from lessonplan.report.axes import EPOCHS
from lessonplan.report.formatting import number
from lessonplan.report.palette import style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Run, known_at

_GAIN = "Drop of the loss by one update: the chosen batch, and the mean candidate (which is what chance gives)."
_FIDELITY = "Cheap scores against exact look-ahead: share of the best gain, Spearman's rank correlation."
_FIGURES = (
    ("Gain", _GAIN, "gain", "drop of the loss", (("gain", "chosen"), ("mean_gain", "mean candidate")), 0.0),
    (
        "Fidelity", _FIDELITY, "fidelity", "agreement",
        (("share_of_gain", "share of gain"), ("rank_correlation", "rank correlation")), 1.0,
    ),
)  # fmt: skip
_COUNTS = ("looks", "measured")


def order_panels(run: Run) -> list[Panel]:
    """Gain and fidelity, then whatever other numbers an orderer has logged."""
    panels: list[Panel] = []
    for title, caption, name, ylabel, keys, line_at in _FIGURES:
        series = [
            ((word, *run.curve("order", key, against=EPOCHS)), style(1 + place))
            for place, (key, word) in enumerate(keys)
        ]
        svg = run_plots.curves(
            series, name=f"order-{name}", ylabel=ylabel, axis=EPOCHS, narrow=True, line_at=line_at
        )
        panels += panel(title, caption, svg, [(line[0], look) for line, look in series if len(line[1])])
    drawn = {*_COUNTS, *(key for *_, keys, _ in _FIGURES for key, _ in keys)}
    lines = [line["order"] for line in run.epochs if isinstance(line.get("order"), dict)]
    others = dict.fromkeys(key for line in lines for key, value in line.items() if number(value) is not None)
    for place, key in enumerate(key for key in others if key not in drawn):
        words = key.replace("_", " ")
        svg = run_plots.curves(
            [((words, *run.curve("order", key, against=EPOCHS)), style(1))],
            name=f"order-other-{place}", ylabel=words, axis=EPOCHS, narrow=True, from_zero=True,
        )  # fmt: skip
        panels += panel(words.capitalize(), "", svg)
    return panels


def order_summary(run: Run) -> str:
    """When ordering was on and how often it looked, in a sentence or two; empty where this was not logged.

    >>> from pathlib import Path
    >>> order_summary(Run(Path("r"), epochs=[{"order": {"on": on}} for on in (True, True, False)]))
    'Ordering was on in 2 of 3 epochs, last in epoch 1; then batches came as they were drawn.'
    """
    states = [
        (line.get("epoch", place), line["order"]["on"])
        for place, line in enumerate(run.epochs)
        if isinstance(line.get("order"), dict) and "on" in line["order"]
    ]
    on = [epoch for epoch, state in states if state]
    if not states:
        return ""
    if len(on) == len(states):
        text = "Ordering was on in every epoch."
    elif not on:
        text = "Ordering was switched off before the end of the first epoch."
    else:
        text = (
            f"Ordering was on in {len(on)} of {len(states)} epochs, last in epoch {on[-1]}; then batches came as"
        )
        text += " they were drawn."
    looks, compared = (sum(known_at(line, "order", key) or 0 for line in run.epochs) for key in _COUNTS)
    if looks:
        text += f" The gain was measured {looks:,.0f} times"
        text += f", cheap scores compared with exact ones {compared:,.0f} times." if compared else "."
    return text
