"""What a network made of corrupted labels."""

from __future__ import annotations

from lessonplan.report.formatting import count, percent
from lessonplan.report.reading import Json
from lessonplan.report.sections.section import Column, Rows, Section, percent_cards

_ERRORS = {
    "val_error_best": "Best validation",
    "val_error_last": "Last validation",
    "train_error_real": "Training, real labels",
    "train_error_corrupted": "Training, corrupted labels",
}


def section(found: Json, results: Json) -> Section:
    """The lecture's table for this network."""
    measures = found["measures"]
    return Section(
        "Corrupted labels",
        about=f"{count(found['corrupted'])} of the {count(found['samples'])} training labels were drawn at random."
        " The error on them is against the labels that were taught: a small one is memory. Validation and test"
        " labels are true.",
        tables=[
            Rows(
                "Errors with corrupted labels",
                [Column("Error, %", "text"), *map(Column, _ERRORS.values())],
                [["this network", *(percent(measures.get(key)) for key in _ERRORS)]],
            )
        ],
        cards=percent_cards({"Training error, corrupted": measures.get("train_error_corrupted")}),
    )
