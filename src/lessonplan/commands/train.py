"""``lessonplan train``."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import DATA_DEFAULTS, DEFAULTS, DataOptions, Flat, Folder, load_for, of_place
from lessonplan.progress import say
from lessonplan.settings import Settings

if TYPE_CHECKING:
    from lessonplan.commands.planned import Planned
    from lessonplan.data import Data
    from lessonplan.network.ranks import Ranks


@dataclass(frozen=True)
class Train:
    """Options of ``lessonplan train``."""

    out: Folder
    """folder of the run, or a URL such as s3://bucket/run; the same command again resumes it"""
    plan: Path | None = None
    """a plan file: YAML with model, mix, select, order, budget and settings; options that are given go first"""
    model: str = "tiny"
    """network, for example wrn-16-1, wrn-16-1:norm=group, timm:NAME, hf-hub:ORG/NAME, transformers:NAME, or your
    own: module:Class, FILE.py:Class"""
    mix: str = "none"
    """how samples are mixed: mixup, cascade:k=4, sum:k=2,until=80%, mixup|cutmix, mixup >> cutout, FILE.py:Mine"""
    select: str = "none"
    """which samples are trained on, for example "accuracy:margin=0.2 >> topk:0.5" or accuracy >> epochwise"""
    order: str = "none"
    """in which order, for example loss-delta:candidates=8,warmup=5ep, multi-attempt:k=16, teacher:RUN"""
    budget: str = "20ep"
    """how long to train: 20ep, 4000 steps, 400k samples, 10min, 1.2M cost"""
    seed: int = 0
    """of split, weights, order and mixes"""
    log: str = ""
    """where the run is recorded beside its folder: tensorboard, wandb, mlflow (extras), separated by commas, with
    options behind a colon: wandb:project=NAME,entity=NAME,group=NAME and mlflow:experiment=NAME"""
    source: Annotated[DataOptions, Flat] = DATA_DEFAULTS
    settings: Annotated[Settings, Flat] = DEFAULTS
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Train, write the run's page, say how well it went."""
        from lessonplan.commands.planned import planned
        from lessonplan.train.joining import joined, shared_place

        chosen = planned(self, self.plan)
        with joined(chosen.settings.device) as ranks:
            with shared_place(self.out, ranks) as place:
                assert place is not None
                answer = self._train(chosen, ranks, place.folder)
            return of_place(answer, place)

    def _train(self, chosen: Planned, ranks: Ranks, out: Path) -> Answer:
        """Train on one of several ranks, or alone; the first one writes and is recorded."""
        from lessonplan.report import write_run
        from lessonplan.report.at_chance import run_note as at_chance
        from lessonplan.report.watched import SENTENCE as WATCHED_TEST
        from lessonplan.train import fit
        from lessonplan.train.loggers import loggers
        from lessonplan.train.run_folder import read_result

        before = read_result(out) if self.log and ranks.first else None
        data = load_for(chosen.model, self.source, chosen.settings, self.seed)
        with tempfile.TemporaryDirectory() as place:
            picture = self._picture(chosen, data, Path(place) / "mixed.png") if self.log and ranks.first else None
            run = fit(
                chosen.model,
                data,
                chosen.plan,
                chosen.budget,
                seed=self.seed,
                out=out,
                callbacks=loggers(self.log, out, picture) if ranks.first else (),
                **chosen.settings.model_dump(),
            )
        if before is not None and before == run.result:
            say(f"the run was finished before: nothing is recorded by --log {self.log}")
        if ranks.first:
            write_run(out)
        page = out / "index.html"

        def show() -> None:
            parts = [
                f"{part} accuracy {run.result[part]['accuracy']:.4f}" for part in _JUDGED if part in run.result
            ]
            if chosen.settings.evaluate_test == "curve":
                print(WATCHED_TEST)
            print(f"{', '.join(parts) or 'trained'} after {run.result['samples']} sample passes")
            if note := at_chance(run.result):
                print(note)
            print(f"page: {page}")

        return Answer({"folder": out, "page": page, **run.result}, show)

    def _picture(self, chosen: Planned, data: Data, file: Path) -> Path | None:
        """What the network sees, drawn for a record; None where samples are no images."""
        from lessonplan.lab.examples import mixed_images
        from lessonplan.report import save_png
        from lessonplan.train.beginning import network_at_start

        mix, network = copy.deepcopy(chosen.plan.mix), None
        if mix is not None and mix.needs_network():
            network = network_at_start(chosen.model, data, chosen.settings, self.seed)
        figure = mixed_images(mix, data, seed=self.seed, model=network)
        return save_png(figure, file) if figure is not None else None


_JUDGED = ("val", "test")
