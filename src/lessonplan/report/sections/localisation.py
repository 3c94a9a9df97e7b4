"""Where the network looks."""

from __future__ import annotations

from lessonplan.report.evaluation_plots import curve
from lessonplan.report.formatting import count, percent
from lessonplan.report.palette import style
from lessonplan.report.panels import panel
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Column, Rows, Section, percent_cards

_COLUMNS = (
    Column("Class right %"),
    Column("Class and box right %", "strong"),
    Column("Box right %"),
    Column("Box right at the best threshold %"),
)


def section(found: Json, results: Json) -> Section:
    """How often boxes are right, and how that depends on the threshold."""
    measures = found["measures"]
    keys = ("localisation_accuracy", "localisation_known_accuracy", "max_box_accuracy")
    row = [percent(found["correct"]), *(percent(measures[key]) for key in keys)]
    maps = "CAM" if found["method"] == "cam" else "Grad-CAM"
    svg = curve(
        {"true class": (found["curve"], style(1))},
        name="boxes",
        xlabel="threshold",
        ylabel="boxes right (%)",
        line_at=found["whole_image"],
    )
    return Section(
        "Localisation",
        about=f"Boxes from {maps} maps, against {found['boxes']} ({count(found['samples'])} images). The threshold"
        f" {found['threshold']} was chosen on training images.",
        tables=[Rows("Localisation", [Column("Maps", "text"), *_COLUMNS], [[maps, *row]])],
        panels=panel(
            "Boxes against the threshold",
            "The box around everything above a share of the map's maximum, IoU at least .5. The dashed line takes"
            " the whole image as box.",
            svg,
        ),
        cards=percent_cards({"Boxes right": measures.get("max_box_accuracy")}),
    )
