"""How well confidence tells other data from these."""

from __future__ import annotations

from lessonplan.report.evaluation_plots import confidences
from lessonplan.report.formatting import count, fixed, percent
from lessonplan.report.palette import style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Column, Rows, Section, known

_COLUMNS = (
    Column("Set", "text"),
    Column("Samples"),
    Column("TNR at TPR 95 %"),
    Column("AUROC %", "strong"),
    Column("Detection accuracy %"),
)


def section(found: Json, results: Json) -> Section:
    """A row a set, and where their confidences lie."""
    report = found["report"]
    rows = [
        [
            name,
            count(found["samples"].get(name)),
            *(percent(row[key]) for key in ("tnr_at_tpr95", "auroc", "detection_accuracy")),
        ]
        for name, row in report.items()
    ]
    auroc = fixed(report["mean"]["auroc"], 3)
    sets = len(report) - 1
    over = f", mean over {sets} sets" if sets > 1 else ""
    return Section(
        "Other data",
        about="Detection by the largest softmax probability; samples like the training data are the positive"
        " class.",
        tables=[Rows("Detection of other data", _COLUMNS, rows)],
        panels=_panels(found),
        cards=known({"AUROC, other data": auroc}),
        findings=[f"Confidence tells other data from these with an AUROC of {auroc}{over}."],
    )


def _panels(found: Json) -> list[Panel]:
    looks = {name: style(i) for i, name in enumerate(found["confidence"])}
    shares = {name: (values, looks[name]) for name, values in found["confidence"].items()}
    words = {"in": "like the training data"}
    legend = [(words.get(name, name), look) for name, look in looks.items()]
    text = "Where the outlines overlap, confidence tells nothing."
    return panel("Confidence on each set", text, confidences(shares), legend)
