"""Errors and gradients between training samples."""

from __future__ import annotations

from lessonplan.report.evaluation_plots import curve
from lessonplan.report.formatting import count
from lessonplan.report.palette import style
from lessonplan.report.panels import panel
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Section, percent_cards

_AXIS = "share of the first sample"


def section(found: Json, results: Json) -> Section:
    """The lecture's two figures on mixup."""
    misses = {"error": ([[p["lam"], p["miss"]] for p in found["curve"]], style(1))}
    norms = {"norm": ([[p["lam"], p["gradient_norm"]] for p in found["curve"]], style(2))}
    text = f"{count(found['pairs'])} pairs of training samples; wrong is a class that is neither of the two."
    errors = curve(misses, name="misses", xlabel=_AXIS, ylabel="neither class (%)")
    gradients = curve(norms, name="norms", xlabel=_AXIS, ylabel="L2 norm of the gradient", percent=False)
    return Section(
        "Between training samples",
        panels=panel("Errors between samples", text, errors)
        + panel("Gradient between samples", "Of the loss with respect to the input, mean over pairs.", gradients),
        cards=percent_cards({"Error between samples": found["measures"].get("between_miss")}),
    )
