"""``lessonplan order``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat, Folder, in_folder
from lessonplan.data.kinds import spellings


@dataclass(frozen=True)
class Order:
    """Options of ``lessonplan order``."""

    data: Annotated[str, tyro.conf.arg(help=spellings("or a path whose kind is guessed"))]
    out: Folder
    """folder for runs.csv, ordering.json and index.html, or a URL such as s3://bucket/mine; the same command again
    goes on where it stopped"""
    classes: str | None = None
    """names of the classes that take part, separated by commas; all if not given"""
    per_class: int = 24
    """training samples of each class"""
    batch: int = 8
    """samples of a batch; 48 samples in batches of 8 have 720 orders"""
    epochs: int = 13
    """passes over the training samples"""
    survivors: int = 12
    """runs of an epoch that the next one starts from, chosen by k-means on their loss"""
    max_permutations: int | None = None
    """orders drawn at random for each start where there are more; all if not given"""
    keep_split: bool = False
    """one split into batches for all epochs (the thesis' text); a new one each epoch if not given (algorithm 1)"""
    evaluate: int | None = 2048
    """most samples for evaluation; all others where there are fewer"""
    evaluate_on: Literal["val", "test"] = "val"
    """samples that nothing else uses, or test data, as the thesis did"""
    test: str | None = None
    """test data of their own, written like --data"""
    model: str = "small-conv"
    """small-conv, or another network without batch norm: lenet, fcnet-100"""
    outputs: int | None = None
    """outputs of the network; one for every class of the data if not given, also those that take no part"""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """update rule, made anew for every epoch"""
    lr: float | None = None
    """learning rate; 0.004 for sgd, 0.001 for adam and adamw if not given"""
    momentum: float | None = None
    """momentum of sgd; 0.9 if not given"""
    nesterov: bool = False
    """Nesterov's form of the momentum"""
    weight_decay: float = 0.0
    """weight decay"""
    seed: int = 0
    """of samples, weights, splits, draws and clusters"""
    jobs: int | None = None
    """trees trained at a time; one a core on the CPU if not given"""
    run_on: str = "local"
    """local (processes of this machine), ray or slurm with options as those of compare"""
    chunk: int | None = None
    """most networks trained together; bounds the memory"""
    max_hours: float = 48.0
    """a search that would take longer is refused"""
    device: str = "auto"
    """auto, cpu, cuda"""
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Search, print the table, name the page."""
        return in_folder(self.out, self._search)

    def _search(self, out: Path) -> Answer:
        from lessonplan.lab.ordering import search_orderings
        from lessonplan.report.ordering import print_ordering

        summary = search_orderings(
            self.data,
            out=out,
            epochs=self.epochs,
            model=self.model,
            jobs=self.jobs,
            executor=None if self.run_on == "local" else self.run_on,
            chunk=self.chunk,
            device=self.device,
            max_hours=self.max_hours,
            test=self.test,
            classes=tuple(self.classes.split(",")) if self.classes is not None else None,
            per_class=self.per_class,
            evaluate=self.evaluate,
            evaluate_on=self.evaluate_on,
            outputs=self.outputs,
            batch_size=self.batch,
            optimizer=self.optimizer,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            redraw=not self.keep_split,
            max_permutations=self.max_permutations,
            survivors=self.survivors,
            seed=self.seed,
        )
        page = out / "index.html"

        def show() -> None:
            print_ordering(summary)
            print(f"page: {page}")

        return Answer({"folder": out, "page": page, **summary}, show)
