"""``lessonplan tune``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import DATA_DEFAULTS, DEFAULTS, DataOptions, Flat, Folder, in_folder
from lessonplan.settings import Settings


@dataclass(frozen=True)
class Tune:
    """Options of ``lessonplan tune``: those of ``lessonplan train``, and what is searched."""

    out: Folder
    """folder for the page (index.html), the best plan (best.yaml) and the runs, or a URL such as s3://bucket/mine;
    the same command again goes on"""
    search: str
    """ranges and choices: "lr=1e-3..1e-1 log, mix.k=2|4|8, select.margin=0..0.5"; settings by their names, options
    of the plan's parts as part.option"""
    plan: Path | None = None
    """a plan file; options that are given go first"""
    model: str = "tiny"
    """network, written as for train"""
    mix: str = "none"
    """how samples are mixed, written as for train"""
    select: str = "none"
    """which samples are trained on, written as for train"""
    order: str = "none"
    """in which order, written as for train"""
    budget: str = "100k cost"
    """what each run trains: 100k cost (forward 1, backward 2 a sample), 20ep; in cost all trials are as dear"""
    trials: int = 20
    """how many in all; give more later to go on"""
    splits: int = 1
    """splits and seeds that each trial is trained on, whose mean counts: more, and luck counts less"""
    sampler: Literal["auto", "tpe", "random"] = "auto"
    """who suggests: Optuna (tpe) where lessonplan[tune] is installed, else random"""
    at_once: int = 4
    """trials that are suggested from the same results; results depend on this and not on --jobs"""
    seed: int = 0
    """of test part, splits, weights, order and suggestions"""
    jobs: int | None = None
    """runs at a time; one a core on the CPU if not given"""
    run_on: str = "local"
    """local (processes of this machine), ray, or slurm:hours=24 (their packages are extras)"""
    source: Annotated[DataOptions, Flat] = DATA_DEFAULTS
    settings: Annotated[Settings, Flat] = DEFAULTS
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Search, print the best trials, name the page."""
        return in_folder(self.out, self._tune)

    def _tune(self, out: Path) -> Answer:
        from lessonplan.commands.planned import planned
        from lessonplan.lab.methods import Method
        from lessonplan.lab.plan_file import PlanFile
        from lessonplan.lab.tuning import tune
        from lessonplan.report.tune import print_tune

        chosen = planned(self, self.plan)
        own = chosen.settings.model_dump(exclude_defaults=True, exclude={"threads"})
        options = self.source.loading()
        share = options.pop("val_fraction", 0.2)
        found = tune(
            self.search,
            self.source.data,
            PlanFile(Method("plan", chosen.plan, own), chosen.model, chosen.budget),
            out=out,
            trials=self.trials,
            splits=self.splits,
            sampler=self.sampler,
            at_once=self.at_once,
            val_fraction=share,
            seed=self.seed,
            jobs=self.jobs,
            threads=chosen.settings.threads,
            executor=None if self.run_on == "local" else self.run_on,
            **options,
        )
        page = out / "index.html"

        def show() -> None:
            print_tune(out)
            print(f"page: {page}")

        told = {"best": found.best.content(), "score": found.score, "table": found.table}
        return Answer({"folder": out, "page": page, **told}, show)
