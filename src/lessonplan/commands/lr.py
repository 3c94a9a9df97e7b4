"""``lessonplan lr``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import DATA_DEFAULTS, DEFAULTS, DataOptions, Flat, Folder, in_folder, load_for
from lessonplan.settings import Settings


@dataclass(frozen=True)
class Lr:
    """Options of ``lessonplan lr``: those of ``lessonplan train``, and the range.

    What belongs to longer training (--schedule, --keep, --ema, evaluations, checkpoints) has no say.
    """

    plan: Path | None = None
    """a plan file; options that are given go first, and its lr has no say"""
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
    out: Folder | None = None
    """folder for index.html, lr.png and lr.json, or a URL such as s3://bucket/mine; without one nothing is
    written"""
    seed: int = 0
    """of split, weights, order and mixes"""
    source: Annotated[DataOptions, Flat] = DATA_DEFAULTS
    settings: Annotated[Settings, Flat] = DEFAULTS
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Train with a rising learning rate, say which one is suggested, write the page."""
        return in_folder(self.out, self._find) if self.out is not None else self._find(None)

    def _find(self, out: Path | None) -> Answer:
        from lessonplan.commands.planned import planned
        from lessonplan.report.lr import write_lr
        from lessonplan.report.lr_words import sentences
        from lessonplan.train.lr_range import check_range, find_lr

        check_range(self.lowest, self.highest, self.steps, out)
        chosen = planned(self, self.plan)
        found = find_lr(
            chosen.model,
            load_for(chosen.model, self.source, chosen.settings, self.seed),
            chosen.plan,
            self.lowest,
            self.highest,
            self.steps,
            seed=self.seed,
            out=out,
            **chosen.settings.model_dump(),
        )
        told = found.to_json()
        page = write_lr(out) if out is not None else None

        def show() -> None:
            print("\n".join(sentences(told)))
            if page is not None:
                print(f"page: {page}")

        return Answer({"folder": out, "page": page, **told}, show)
