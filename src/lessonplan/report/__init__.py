"""The page of a comparison or a run, and pictures of samples: reads what was stored, never trains.

What draws is imported when it is first used, so that runs need not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessonplan.lazy import importer

if TYPE_CHECKING:
    from lessonplan.report.evaluation import write_evaluation
    from lessonplan.report.images import heat, image_grid, save_png
    from lessonplan.report.page import write_comparison, write_overview, write_pages, write_run
    from lessonplan.report.pictures import file_stem

__all__ = [
    "file_stem",
    "heat",
    "image_grid",
    "save_png",
    "write_comparison",
    "write_evaluation",
    "write_overview",
    "write_pages",
    "write_run",
]

__getattr__ = importer(
    __name__,
    {
        "file_stem": "lessonplan.report.pictures",
        "heat": "lessonplan.report.images",
        "image_grid": "lessonplan.report.images",
        "save_png": "lessonplan.report.images",
        "write_comparison": "lessonplan.report.page",
        "write_evaluation": "lessonplan.report.evaluation",
        "write_overview": "lessonplan.report.page",
        "write_pages": "lessonplan.report.page",
        "write_run": "lessonplan.report.page",
    },
)
