"""The page of a comparison or a run, and pictures of samples: reads what was stored, never trains."""

from lessonplan.report.images import image_grid, save_png
from lessonplan.report.page import write_comparison, write_overview, write_pages, write_run
from lessonplan.report.pictures import file_stem

__all__ = [
    "file_stem",
    "image_grid",
    "save_png",
    "write_comparison",
    "write_overview",
    "write_pages",
    "write_run",
]
