"""Test-time sums, and Mixup Inference beside them."""

from __future__ import annotations

from lessonplan.report.evaluation_plots import curve
from lessonplan.report.formatting import count, percent, points
from lessonplan.report.palette import style
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Column, Rows, Section, percent_cards

DEFENCES = {
    "ttsa": "test-time sums",
    "mi_predicted": "Mixup Inference, predicted class",
    "mi_other": "Mixup Inference, other classes",
}


def section(found: Json, results: Json) -> Section:
    """Accuracy by copies and by lambda."""
    measures, more = found["measures"], "s" if found["k"] > 2 else ""
    rows = [["plain prediction", percent(measures["clean_accuracy"])]]
    rows += [[DEFENCES[name], percent(values[-1][1])] for name, values in found["by_copies"].items()]
    return Section(
        "Test-time sums",
        about=f"Each prediction is the mean over {found['copies']} sums of the sample with {found['k'] - 1} random"
        f" training sample{more}, lambda {found['weight']}.",
        tables=[
            Rows("Accuracy of test-time predictions", [Column("Prediction", "text"), Column("Accuracy %")], rows)
        ],
        panels=_panels(found),
        cards=percent_cards({"With test-time sums": measures.get("ttsa_accuracy")}),
        findings=[
            f"Test-time sums of {found['k']} with {found['copies']} copies reach"
            f" {percent(measures['ttsa_accuracy'])}% where the plain prediction reaches"
            f" {percent(measures['clean_accuracy'])}%"
            f" ({points(measures['ttsa_accuracy'] - measures['clean_accuracy'])} points), on"
            f" {count(found['samples'])} samples."
        ],
    )


def _panels(found: Json) -> list[Panel]:
    clean = found["measures"]["clean_accuracy"]
    series = {DEFENCES[name]: (line, style(i + 1)) for i, (name, line) in enumerate(found["by_copies"].items())}
    dashed = "The dashed line is the plain prediction of the same samples."
    panels = panel(
        "Accuracy against copies",
        f"Predictions averaged over so many sums, on {count(found['samples'])} samples. {dashed}",
        curve(series, name="copies", xlabel="copies", ylabel="accuracy (%)", doubling=True, line_at=clean),
        [(label, look) for label, (_, look) in series.items()],
    )
    weights = {"test-time sums": (found["by_weight"], style(1))}
    text = (
        f"How much the tested sample counts in a sum of {found['k']}; on {count(found['weight_samples'])} samples."
    )
    few = found.get("weight_clean_accuracy")  # evaluations of before have none
    svg = curve(weights, name="weights", xlabel="lambda", ylabel="accuracy (%)", doubling=True, line_at=few)
    return panels + panel("Accuracy against lambda", text if few is None else f"{text} {dashed}", svg)
