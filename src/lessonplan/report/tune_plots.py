"""The trials of a search over each number that was searched."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, NullFormatter

from lessonplan.report.lr_words import rate
from lessonplan.report.palette import MUTED, style
from lessonplan.report.reading import Json
from lessonplan.report.svg import drawing, new_figure, to_svg
from lessonplan.report.tune_words import best_of, metric_name, over, score_text, value_text

TRIALS, BEST = style(1), style(2)
_MOST_TICKS = 6


def over_number(record: Json, name: str, place: int) -> Markup | None:
    """Scores over the values of a number; None without a finished trial."""
    watch, best = record["identity"]["watch"], best_of(record)
    done = [(trial["values"][name], _height(trial["score"], watch)) for trial in record["trials"] if over(trial)]
    if best is None:
        return None
    text = next(text for text in record["identity"]["search"] if text.partition("=")[0] == name)
    ranged = ".." in text
    choices = [] if ranged else text.partition("=")[2].split("|")
    winner = record["trials"][best]

    def x(value: Any) -> float:
        return float(value) if ranged else float(choices.index(value_text(value)))

    with drawing():
        figure, axes = new_figure(200)
        axes.plot(
            [x(v) for v, _ in done], [h for _, h in done], linestyle="", color=TRIALS.color, marker="o",
            markersize=4, alpha=0.8,
        )  # fmt: skip
        axes.plot([x(winner["values"][name])], [_height(winner["score"], watch)], color=BEST.color, marker="D")
        if not ranged:
            axes.set_xticks(range(len(choices)), choices)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif text.endswith(" log"):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rate(value)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.locator_params(axis="x", nbins=_MOST_TICKS)
        axes.set_xlabel(name, color=MUTED)
        axes.set_ylabel(metric_name(watch) + ("" if watch == "loss" else ", %"))
        words = (
            f"The {metric_name(watch)} of {len(done)} trials over {name}; the best,"
            f" {score_text(winner['score'], watch)}, at {value_text(winner['values'][name])}."
        )
        return to_svg(figure, f"tune{place}", words)


def _height(score: float, watch: str) -> float:
    return -score if watch == "loss" else 100 * score
