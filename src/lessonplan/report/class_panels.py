"""How well the classes are told apart: figures and tables of a part's confusion matrix, and its calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lessonplan.confusion import classes_of, frequent_confusions, scores_of
from lessonplan.report import run_plots
from lessonplan.report.evaluation_plots import reliability_diagram
from lessonplan.report.formatting import MISSING, count, fixed, percent
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Column, Rows
from lessonplan.report.zoom import READABLE, Level, zoom_levels

_WHOLE = 25  # classes up to which the whole matrix can be read
_LISTED = 15  # pairs in the table
_SHADED = "Shaded by the share of each true class (square root)."


def class_panels(found: Json, names: Sequence[str], what: str) -> list[Panel]:
    """Confusion matrix, accuracy of each class and calibration, those that are known.

    Args:
        found: what ``detailed_metrics`` told of a part; older ones lack some of it.
        names: a name a class.
        what: of which part, ``"test"`` or ``"validation"``.
    """
    values, confusion = found.get("per_class_accuracy") or [], found.get("confusion") or []
    bins = found.get("reliability") or {}
    many = len(values) > run_plots.MOST_BARS
    panels = confusion_panels(confusion, names)
    panels += panel(
        "Accuracy per class",
        f"The {run_plots.WEAKEST} weakest of {len(values)} classes." if many else f"On the {what} data.",
        run_plots.class_accuracy(values, named(names, len(values)), f"{what} accuracy"),
    )
    if bins:
        panels += panel(
            "Calibration",
            "Accuracy of predictions of like confidence, the points at their mean confidence; along the top their"
            " number. Below the line: too sure; above: too modest.",
            reliability_diagram(bins["count"], bins["confidence"], bins["accuracy"]),
        )
    return panels


def confusion_panels(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> list[Panel]:
    """The confusion matrix; of more than 25 classes also the part of it where the most frequent confusions are."""
    if not confusion:
        return []
    counts = np.asarray(confusion, dtype=np.float64)
    labels = named(names, len(counts))
    panels = panel("Confusion matrix", _SHADED, run_plots.confusion_matrix(counts, labels))
    shown = classes_of(frequent_confusions(confusion, len(counts)), run_plots.MOST_NUMBERS)
    if len(counts) <= _WHOLE or not shown:
        return panels
    return panels + panel(
        "Confusion matrix, enlarged",
        f"The {len(shown)} of {len(counts)} classes that are confused most often; shaded by the share of all"
        " samples of each true class (square root).",
        run_plots.confusion_matrix(
            counts[np.ix_(shown, shown)], [labels[i] for i in shown], "confusion-part", counts.sum(1)[shown]
        ),
    )


def class_zoom(found: Json, names: Sequence[str]) -> list[Level]:
    """The classes of the worst pairs, step by step nearer, with counts and shares; nothing of few classes, whose
    figure has all numbers."""
    confusion = found.get("confusion") or []
    if len(confusion) <= run_plots.MOST_NUMBERS:
        return []
    counts = np.asarray(confusion, dtype=np.int64)
    return zoom_levels(counts, named(names, len(counts)), whole=len(counts) <= READABLE)


def class_tables(found: Json, names: Sequence[str]) -> list[Rows]:
    """The most frequent confusions, and precision, recall, F1 and support of each class, worst F1 first."""
    confusion = found.get("confusion")
    if not confusion:
        return []
    labels = named(names, len(confusion))
    pairs = frequent_confusions(confusion, _LISTED)
    tables = []
    if pairs:
        tables.append(
            Rows(
                "Most frequent confusions",
                (
                    Column("True class", "text"),
                    Column("Taken for", "text"),
                    Column("Samples"),
                    Column("Share, %"),
                ),
                [(labels[p.true], labels[p.predicted], count(p.count), percent(p.share, 1)) for p in pairs],
                title="Most frequent confusions",
                about="The share is that of all samples of the true class.",
            )
        )
    scores = scores_of(confusion)
    order = sorted(range(len(labels)), key=lambda i: np.inf if (f1 := scores.f1[i]) is None else f1)
    rows = [
        (labels[i], *(fixed(values[i], 3) for values in (scores.f1, scores.precision, scores.recall)),
         count(scores.support[i]))
        for i in order
    ]  # fmt: skip
    return [
        *tables,
        Rows(
            "Scores of each class",
            (Column("Class", "text"), Column("F1"), Column("Precision"), Column("Recall"), Column("Samples")),
            rows,
            title="Each class, worst first",
            about=f"Of {len(labels)} classes. Precision: the share that is right of what was taken for the"
            f" class; recall: the share of the class that was found. {MISSING}: there was none. Press a heading to"
            " sort.",
            sortable=True,
        ),
    ]


def named(names: Sequence[str], classes: int) -> list[str]:
    """The classes' names, or their numbers where there are not as many."""
    return list(names) if len(names) == classes else [str(index) for index in range(classes)]
