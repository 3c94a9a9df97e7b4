"""``lessonplan lr``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lessonplan.commands.common import DATA_DEFAULTS, DEFAULTS, DataOptions, Flat, load_for
from lessonplan.settings import Settings


@dataclass(frozen=True)
class Lr:
    """Options of ``lessonplan lr``: those of ``lessonplan train``, and the range.

    What belongs to longer training (--schedule, --keep, --ema, evaluations, checkpoints) has no say.
    """

    model: str = "tiny"
    """network, written as for train"""
    mix: str = "none"
    """how samples are mixed, written as for train; a cascade stays in its first stage"""
    select: str = "none"
    """which samples are trained on, written as for train"""
    order: str = "none"
    """in which order, written as for train"""
    lowest: Annotated[float, tyro.conf.arg(name="from")] = 1e-6
    """learning rate of the first step"""
    highest: Annotated[float, tyro.conf.arg(name="to")] = 10.0
    """learning rate of the last step"""
    steps: int = 100
    """updates; fewer where the loss diverges (4 times its best, smoothed)"""
    out: Path | None = None
    """folder for index.html, lr.png and lr.json; without one nothing is written"""
    seed: int = 0
    """of split, weights, order and mixes"""
    source: Annotated[DataOptions, Flat] = DATA_DEFAULTS
    settings: Annotated[Settings, Flat] = DEFAULTS

    def run(self) -> int:
        """Train with a rising learning rate, say which one is suggested, write the page."""
        from lessonplan.plan import Plan
        from lessonplan.report.lr import write_lr
        from lessonplan.report.lr_words import sentences
        from lessonplan.train.lr_range import check_range, find_lr

        check_range(self.lowest, self.highest, self.steps, self.out)
        found = find_lr(
            self.model,
            load_for(self.model, self.source, self.settings, self.seed),
            Plan.from_texts(select=self.select, order=self.order, mix=self.mix),
            self.lowest,
            self.highest,
            self.steps,
            seed=self.seed,
            out=self.out,
            **self.settings.model_dump(),
        )
        print("\n".join(sentences(found.to_json())))
        if self.out is not None:
            print(f"page: {write_lr(self.out)}")
        return 0
