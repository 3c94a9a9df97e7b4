"""``lessonplan report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Report:
    """Options of ``lessonplan report``."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """folder of a run, a comparison or a reproduction"""

    def run(self) -> int:
        """Write the pages again."""
        from lessonplan.report import write_pages

        print(f"page: {write_pages(self.folder)}")
        return 0
