"""Losses, accuracies and calibration on all samples."""

from __future__ import annotations

import numpy as np

from lessonplan.report import run_plots
from lessonplan.report.evaluation_plots import reliability_diagram
from lessonplan.report.formatting import count, fixed
from lessonplan.report.panels import Panel, panel
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Section, known, percent_cards


def section(found: Json, results: Json) -> Section:
    """The headline numbers, calibration, and the classes."""
    about = f"All {count(found['samples'])} samples of the {results['options']['on']} data."
    return Section(
        "Classification",
        about=f"{about} {results['subject'].get('note') or ''}".strip(),
        panels=_panels(found, [str(name) for name in results["subject"]["classes"]]),
        cards=[
            *percent_cards({"Accuracy": found.get("accuracy"), "Top-5 accuracy": found.get("top5")}),
            *known(
                {
                    "Loss": fixed(found.get("loss"), 3),
                    "Calibration error": fixed(found.get("calibration_error"), 3),
                    "Norm of the weights": fixed(found.get("param_norm"), 1),
                }
            ),
        ],
    )


def _panels(found: Json, names: list[str]) -> list[Panel]:
    bins = found["reliability"]
    panels = panel(
        "Calibration",
        "Bars above the line: too modest; below: too sure. Darker bars hold more samples.",
        reliability_diagram(bins["count"], bins["confidence"], bins["accuracy"]),
    )
    values, confusion = found["per_class_accuracy"], found["confusion"]
    labels = names if len(names) == len(values) else [str(index) for index in range(len(values))]
    panels += panel("Accuracy per class", "", run_plots.class_accuracy(values, labels))
    counts = np.asarray(confusion, dtype=np.float64)
    text = "Shaded by the share of each true class (square root)."
    return panels + panel("Confusion matrix", text, run_plots.confusion_matrix(counts, labels))
