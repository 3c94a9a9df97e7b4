"""Losses, accuracies and calibration on all samples."""

from __future__ import annotations

from lessonplan.report.class_panels import class_panels
from lessonplan.report.formatting import count, fixed
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Section, known, percent_cards


def section(found: Json, results: Json) -> Section:
    """The headline numbers, calibration, and the classes."""
    names, part = [str(name) for name in results["subject"]["classes"]], results["options"]["on"]
    about = f"All {count(found['samples'])} samples of the {part} data."
    return Section(
        "Classification",
        about=f"{about} {results['subject'].get('note') or ''}".strip(),
        panels=class_panels(found, names, "validation" if part == "val" else part),
        cards=[
            *percent_cards(
                {
                    "Accuracy": found.get("accuracy"),
                    "Balanced accuracy": found.get("balanced_accuracy"),
                    "Macro F1": found.get("macro_f1"),
                    "Top-5 accuracy": found.get("top5"),
                }
            ),
            *known(
                {
                    "Loss": fixed(found.get("loss"), 3),
                    "Calibration error": fixed(found.get("calibration_error"), 3),
                    "Norm of the weights": fixed(found.get("param_norm"), 1),
                }
            ),
        ],
    )
