"""``lessonplan advise``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import (
    DATA_DEFAULTS,
    DEFAULTS,
    DataOptions,
    Flat,
    Folder,
    given_settings,
    in_folder,
)
from lessonplan.settings import Settings

_DATA = replace(DATA_DEFAULTS, test_fraction=0.0)


@dataclass(frozen=True)
class Advise:
    """Options of ``lessonplan advise``."""

    out: Folder
    """folder for the verdict (index.html), the classifier (model/) and the runs, or a URL such as s3://bucket/mine;
    the same command again goes on"""
    time: str | None = None
    """how long it may take in all, training at the end included: 30min, 2h; give more later to go on"""
    budget: str | None = None
    """instead of --time, the cost of all runs: 40M cost (forward 1, backward 2 a sample)"""
    model: str = "tiny"
    """network, written as for train"""
    plans: str | None = None
    """plans against plain training, written as --methods of compare, or plan files separated by commas; if not
    given, a field of mixes, selections, learning rates, and with --weights heads on features"""
    each: str | None = None
    """what each run trains (30ep, 90k cost); if not given, as long as the time allows"""
    seed: int = 0
    """of test part, splits, weights and order"""
    jobs: int | None = None
    """runs at a time; one a core on the CPU if not given"""
    run_on: str = "local"
    """local (processes of this machine), ray or slurm with options as those of compare"""
    level: float = 0.95
    """confidence level of all intervals together"""
    allow_duplicates: bool = False
    """go on though held-back pictures have near copies among those that are trained on"""
    source: Annotated[DataOptions, Flat] = _DATA
    settings: Annotated[Settings, Flat] = DEFAULTS
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Hold the tournament, print its table and verdict, name the page."""
        return in_folder(self.out, self._advise)

    def _advise(self, out: Path) -> Answer:
        from lessonplan.lab.advice import advise
        from lessonplan.report.advice import print_advice

        options = {**self.source.loading(), "test_fraction": self.source.test_fraction}
        share = options.pop("val_fraction", 0.2)
        found = advise(
            self.source.data,
            out=out,
            time=self.time,
            budget=self.budget,
            model=self.model,
            plans=self.plans,
            each=self.each,
            val_fraction=share,
            seed=self.seed,
            jobs=self.jobs,
            threads=self.settings.threads,
            executor=None if self.run_on == "local" else self.run_on,
            settings=given_settings(self.settings),
            level=self.level,
            allow_duplicates=self.allow_duplicates,
            **options,
        )
        page = out / "index.html"

        def show() -> None:
            print_advice(out)
            print(f"page: {page}")

        told = {"verdict": found.verdict, "kind": found.kind, "plan": found.plan.content(), "table": found.table}
        return Answer({"folder": out, "page": page, **told, "record": asdict(found.record)}, show)
