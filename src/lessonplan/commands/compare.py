"""``lessonplan compare``."""

from __future__ import annotations

from dataclasses import dataclass
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
    read_seeds,
)
from lessonplan.errors import ConfigError
from lessonplan.settings import Settings

_METHODS = "erm,mixup,sum,cascade,gradual"


@dataclass(frozen=True)
class Compare:
    """Options of ``lessonplan compare``."""

    out: Folder
    """folder for results.csv, results.json, index.html and runs/, or a URL such as s3://bucket/mine"""
    methods: str | None = None
    """plans separated by commas, each with its options, NAME=PLAN where one is to have a name
    (erm,sum:k=4,pairing=permute,filter=select:accuracy are three), with settings of their own
    (probe=tune:head,ft=tune:all + lr:3e-4 + mixup; logreg and ncm find a head without training), or a YAML file
    of plans; erm,mixup,sum,cascade,gradual if not given, and with --plan erm"""
    plan: tuple[Path, ...] = ()
    """plan files, further methods; where they name a network or a budget they do so alike, and --model and
    --budget go first"""
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
    """runs at a time; one a core on the CPU, one a GPU, on a cluster as many as it takes, if not given"""
    run_on: str = "local"
    """local (processes of this machine), ray (ray:address=HOST:PORT,cpus=2,gpus=1,memory=8GB,retries=3), or slurm
    (slurm:hours=2,partition=gpu,gpus=1,memory=16GB; slurm:on=local tries it without SLURM); their packages are
    extras"""
    level: float = 0.95
    """confidence level of the intervals"""
    log: str = ""
    """where runs and table are recorded beside their folders: tensorboard, wandb, mlflow, separated by commas,
    with options behind a colon: wandb:project=NAME,entity=NAME,group=NAME and mlflow:experiment=NAME"""
    source: Annotated[DataOptions, Flat] = DATA_DEFAULTS
    settings: Annotated[Settings, Flat] = DEFAULTS
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Compare, print the table, name the page."""
        return in_folder(self.out, self._compare)

    def _compare(self, out: Path) -> Answer:
        from lessonplan.lab.comparison import compare
        from lessonplan.lab.methods import read_methods
        from lessonplan.lab.plan_file import read_plan_file
        from lessonplan.plan import Plan
        from lessonplan.report.terminal import print_table

        shared = Plan.from_texts(select=self.select, order=self.order)
        files = [read_plan_file(file) for file in self.plan]
        methods = read_methods(self.methods or ("erm" if files else _METHODS))
        methods = read_methods([*methods, *(file.method for file in files)])
        model = self._shared("model", {file.name: file.model for file in files})
        budget = self._shared("budget", {file.name: file.budget for file in files})
        for method in methods:
            method.plan.select = method.plan.select or shared.select
            method.plan.order = method.plan.order or shared.order
        results = compare(
            methods,
            self.source.data,
            out=out,
            model=model,
            seeds=read_seeds(self.seeds),
            budget=budget,
            reference=self.reference,
            title=self.title,
            jobs=self.jobs,
            threads=self.settings.threads,
            executor=None if self.run_on == "local" else self.run_on,
            settings=given_settings(self.settings),
            level=self.level,
            log=self.log,
            **self.source.loading(),
        )
        page = out / "index.html"

        def show() -> None:
            print_table(results)
            print(f"page: {page}")

        return Answer({"folder": out, "page": page, **results}, show, 1 if results["failures"] else 0)

    def _shared(self, name: str, named: dict[str, str | None]) -> str:
        """What all runs have alike: as the option says, else as all files do that say anything."""
        option, default = getattr(self, name), type(self).__dataclass_fields__[name].default
        said = {file: text for file, text in named.items() if text is not None}
        if option != default or not said:
            return str(option)
        if len(set(said.values())) > 1:
            text = ", ".join(f"{file}: {value}" for file, value in said.items())
            raise ConfigError(
                f"the plan files name different {name}s ({text}): give --{name}, which all runs share"
            )
        return next(iter(said.values()))
