"""``lessonplan explain-orders``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat


@dataclass(frozen=True)
class ExplainOrders:
    """Options of ``lessonplan explain-orders``."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """folder of a search, made by lessonplan order; gets explanation.json, and its page a section"""
    data: str | None = None
    """where the data of the search lie now, written as for order; where they lay if not given"""
    test: str | None = None
    """the same of test data of their own"""
    device: str = "auto"
    """auto, cpu, cuda"""
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Train the starts again, compare, print both tables, name the page."""
        from lessonplan.lab.ordering import explain_orders
        from lessonplan.report.order_explained import print_explanation

        record = explain_orders(self.folder, data=self.data, test=self.test, device=self.device)
        page = self.folder / "index.html"

        def show() -> None:
            print_explanation(record)
            print(f"page: {page}")

        return Answer({"folder": self.folder, "page": page, **record}, show)
