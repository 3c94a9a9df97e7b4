"""What makes an order good, as a section of a search's page and in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lessonplan.errors import DataError
from lessonplan.report.formatting import MISSING, count, fixed, listing, number, p_value, shown
from lessonplan.report.order_explained_plots import contrasts_plot, epochs_plot, foretold_plot, levels_plot
from lessonplan.report.palette import style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Json
from lessonplan.stored import read_json

CONTRASTS = (("best_minus_worst", "best minus worst"), ("best_minus_middle", "best minus middle"))
LEVELS = (("best", 1), ("middle", 0), ("worst", 2))
_DRAWN = 12  # features in the figure; the table has all
_CURVES = ("ridge", "expansion", "evaluation")


def read_explanation(folder: Path) -> Json | None:
    """``explanation.json`` of a search, None where it was not asked for.

    Raises:
        DataError: the file is damaged, or of another layout.
    """
    file = folder / "explanation.json"
    if not file.exists():
        return None
    record = read_json(file, "repeat lessonplan explain-orders")
    if record.get("schema") != 1:
        raise DataError(f"{file} has a layout that this version of lessonplan does not read")
    return record


def explained(record: Json, runs: int) -> dict[str, Any]:
    """What the template shows.

    Args:
        record: of ``explanation.json``.
        runs: of the search as it is now.
    """
    return {
        "sentences": sentences(record),
        "stale": record["runs"] != runs,
        "record": record,
        "features": [_feature_row(row) for row in record["features"]],
        "foretold": [_foretold_row(row) for row in record["foretold"]],
        "panels": _panels(record),
    }


def sentences(record: Json) -> list[str]:
    """The finding in words: what separates, what foretells, how much there is to foretell."""
    return [_separating(record), *_foretelling(record), *_reference(record)]


def print_explanation(record: Json, console: Console | None = None) -> None:
    """Print the features, the foretelling and the finding.

    Args:
        record: what ``explanation.json`` holds.
        console: where to; standard output if not given.
    """
    console = console or Console(soft_wrap=True)
    table = Table(title="Features of orders, in standard deviations of a tree", title_justify="left")
    for column in ("feature", "best", "worst", "best minus worst", "Holm p", "same sign"):
        table.add_column(column, justify="left" if column == "feature" else "right")
    for row in record["features"]:
        contrast = row["best_minus_worst"]
        table.add_row(
            row["name"], fixed(row["best"]), fixed(row["worst"]), _with_interval(contrast),
            p_value(contrast["p_holm"]), fixed(100 * row["same_sign"], 0) + "%",
        )  # fmt: skip
    console.print(table)
    table = Table(title="How well ranks are foretold (Spearman)", title_justify="left")
    for column in ("by", "correlation", "Holm p", "R2", "its best order stands at"):
        table.add_column(column, justify="left" if column == "by" else "right")
    for row in record["foretold"]:
        table.add_row(
            row["name"], _with_interval(row["spearman"]), p_value(row["spearman"]["p_holm"]), fixed(row["r2"]),
            fixed(row["chosen"]["mean"], 3),
        )  # fmt: skip
    console.print(table)
    for sentence in sentences(record):
        console.print(shown(sentence))
    check = record["check"]
    console.print(
        f"{count(check['agreeing'])} of {count(check['orders'])} orders that were trained again ended with the"
        f" stored loss (median difference {check['median_difference']:.1g})"
    )


def _separating(record: Json) -> str:
    tested = len(record["features"])
    decided = [row for row in record["features"] if any(_decided(row[key]) for key, _ in CONTRASTS)]
    over = f"{count(record['runs'])} orders from {count(record['trees'])} starts"
    if len(record["epochs"]) < 2:
        return f"Nothing can be decided from one epoch: its trees share their batches ({over})."
    over += f" in {len(record['epochs'])} epochs"
    if not decided:
        return (
            f"None of {tested} features separates the best tenth of orders from the worst or the middle ({over})."
        )
    named = [f"{row['name']} ({_lean(row)})" for row in decided]
    return (
        f"Of {tested} features {len(decided)} separate{'s' if len(decided) == 1 else ''} the best tenth of orders"
        f" from the worst or the middle one, corrected for all: {listing(named)} ({over})."
    )


def _lean(row: Json) -> str:
    """Where the best orders stand.

    >>> _lean({"best_minus_worst": {"mean": 1, "verdict": "undecided"},
    ...        "best_minus_middle": {"mean": 2, "verdict": "better"}})
    'more in the best than in the middle'
    """
    sides: dict[str, list[str]] = {}
    for key, words in CONTRASTS:
        if _decided(row[key]):
            sides.setdefault("more" if row[key]["mean"] > 0 else "less", []).append(words.rpartition(" ")[2])
    return listing([f"{side} in the best than in the {listing(others)}" for side, others in sides.items()])


def _decided(difference: Json) -> bool:
    return difference["verdict"] in ("better", "worse")


def _foretelling(record: Json) -> list[str]:
    ways = [row for row in record["foretold"] if row["transfers"]]
    if not ways:
        return []
    working = [row for row in ways if row["spearman"]["verdict"] == "better"]
    if not working:
        return ["Nothing foretells the order's rank in an epoch that it was not fitted on."]
    best = max(working, key=lambda row: row["spearman"]["mean"])
    failing = [row["name"] for row in ways if row not in working]
    text = (
        f"In epochs that nothing was fitted on, {best['name']} foretells ranks best: Spearman"
        f" {_with_interval(best['spearman'])}, 0 is knowing nothing; the order it puts first stands at"
        f" {fixed(best['chosen']['mean'])} of its tree, 0 the best, 0.5 by chance."
    )
    return [text + (f" Not better than nothing: {listing(failing)}." if failing else "")]


def _reference(record: Json) -> list[str]:
    known = {row["name"]: row["spearman"]["mean"] for row in record["foretold"] if not row["transfers"]}
    words = {
        "evaluation": "the expansion of the evaluation loss itself reaches {}",
        "other starts": "the same order from the epoch's other starts {}",
        "places": "which batch stands where, fitted on half of the tree's own orders, {}",
    }
    said = [text.format(fixed(known[name])) for name, text in words.items() if name in known]
    return [f"How much there is to know: {listing(said)}."] if said else []


def _with_interval(difference: Json) -> str:
    """A mean with the interval over epochs.

    >>> _with_interval({"mean": 0.5, "ci_t": [0.25, 0.75]}), _with_interval({"mean": 0.5, "ci_t": None})
    ('0.50 (0.25 to 0.75)', '0.50')
    """
    mean, bounds = fixed(difference["mean"]), difference["ci_t"]
    return mean if bounds is None else f"{mean} ({fixed(bounds[0])} to {fixed(bounds[1])})"


def _feature_row(row: Json) -> dict[str, Any]:
    return {
        **row,
        "contrasts": [
            {
                "text": _with_interval(row[key]),
                "p": p_value(row[key]["p_holm"]),
                "decided": _decided(row[key]),
            }
            for key, _ in CONTRASTS
        ],
    }


def _foretold_row(row: Json) -> dict[str, Any]:
    chosen = row["chosen"]
    return {
        **row,
        "text": _with_interval(row["spearman"]),
        "p": p_value(row["spearman"]["p_holm"]),
        "r2": MISSING if number(row["r2"]) is None else fixed(row["r2"]),
        "chosen": _with_interval(chosen),
    }


def _panels(record: Json) -> list[Panel]:
    looks = {name: style(index) for name, index in LEVELS}
    rows = record["features"][:_DRAWN]
    left = len(record["features"]) - len(rows)
    panels = panel(
        "Best, middle and worst orders",
        "Mean of a feature in the best, the middle and the worst tenth of a tree's orders, in its standard"
        f" deviations there, mean over the epochs.{f' The table has {left} more.' if left else ''}",
        levels_plot(rows, looks),
        [(f"{name} tenth", look) for name, look in looks.items()],
    )
    panels += panel(
        "Best minus worst",
        "A dot an epoch, the diamond the mean, the line its interval (an arrow: it goes on). Grey ones decide"
        " nothing, corrected for all features.",
        contrasts_plot(rows, {row["name"]: style(1 if _decided(row["best_minus_worst"]) else 0) for row in rows}),
    )
    ways = {row["name"]: style(1 if row["transfers"] else 0) for row in record["foretold"]}
    panels += panel(
        "How well ranks are foretold",
        "Spearman's correlation of foretold and true ranks within a tree: a dot an epoch, the diamond the mean,"
        " the line its interval. Grey ones know what no order may know.",
        foretold_plot(record["foretold"], ways),
    )
    drawn = [row for row in record["foretold"] if row["name"] in _CURVES]
    curves = {row["name"]: style(1 + place) for place, row in enumerate(drawn)}
    panels += panel(
        "Epoch by epoch",
        "The same correlation by epoch. Above zero the foretold order is right more often than chance.",
        epochs_plot(drawn, curves),
        list(curves.items()),
    )
    return panels
