"""``lessonplan compare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lessonplan.commands.common import DATA_DEFAULTS, DEFAULTS, DataOptions, Flat, given_settings, read_seeds
from lessonplan.settings import Settings


@dataclass(frozen=True)
class Compare:
    """Options of ``lessonplan compare``."""

    out: Path
    """folder for results.csv, results.json, index.html and runs/"""
    methods: str = "erm,mixup,sum,cascade,gradual"
    """plans separated by commas (sum:k=4,pairing=permute; filter=select:accuracy; label=spec names one), with
    settings of their own (probe=tune:head; ft=tune:all + lr:3e-4 + mixup; logreg and ncm find a head without
    training), or a YAML file of plans"""
    select: str = "none"
    """which samples each method without a selection of its own is trained on"""
    order: str = "none"
    """in which order, for each method without one of its own"""
    seeds: str = "5"
    """how many seeds, or which: 3,4,5"""
    budget: str = "30k samples"
    """training of each run: 20ep, 4000 steps, 400k samples, 10min, 1.2M cost"""
    model: str = "tiny"
    """name of the network, for example wrn-16-1, resnet-18, timm:NAME"""
    reference: str | None = None
    """method that the others are compared with; erm if it is there"""
    title: str | None = None
    """headline of the page"""
    jobs: int | None = None
    """runs at a time; one a core on the CPU if not given"""
    run_on: str = "local"
    """local (processes of this machine), ray, or slurm:hours=24 (their packages are extras)"""
    level: float = 0.95
    """confidence level of the intervals"""
    source: Annotated[DataOptions, Flat] = DATA_DEFAULTS
    settings: Annotated[Settings, Flat] = DEFAULTS

    def run(self) -> int:
        """Compare, print the table, name the page."""
        from lessonplan.lab.comparison import compare
        from lessonplan.lab.methods import read_methods
        from lessonplan.plan import Plan
        from lessonplan.report.terminal import print_table

        shared = Plan.from_texts(select=self.select, order=self.order)
        methods = read_methods(self.methods)
        for method in methods:
            method.plan.select = method.plan.select or shared.select
            method.plan.order = method.plan.order or shared.order
        results = compare(
            methods,
            self.source.data,
            out=self.out,
            model=self.model,
            seeds=read_seeds(self.seeds),
            budget=self.budget,
            reference=self.reference,
            title=self.title,
            jobs=self.jobs,
            threads=self.settings.threads,
            executor=None if self.run_on == "local" else self.run_on,
            settings=given_settings(self.settings),
            level=self.level,
            **self.source.loading(),
        )
        print_table(results)
        print(f"page: {self.out / 'index.html'}")
        return 1 if results["failures"] else 0
