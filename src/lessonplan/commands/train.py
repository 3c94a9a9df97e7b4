"""``lessonplan train``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lessonplan.commands.common import DATA_DEFAULTS, DEFAULTS, DataOptions, Flat, load_for
from lessonplan.settings import Settings


@dataclass(frozen=True)
class Train:
    """Options of ``lessonplan train``."""

    out: Path
    """folder of the run; the same command again resumes it"""
    model: str = "tiny"
    """network, for example wrn-16-1, wrn-16-1:norm=group, timm:NAME, hf-hub:ORG/NAME, transformers:NAME, or your
    own: module:Class, FILE.py:Class"""
    mix: str = "none"
    """how samples are mixed: mixup, cascade:k=4, sum:k=2,until=80%, mixup|cutmix, mixup >> cutout, FILE.py:Mine"""
    select: str = "none"
    """which samples are trained on, for example "accuracy:margin=0.2 >> topk:0.5" or accuracy >> epochwise"""
    order: str = "none"
    """in which order, for example loss-delta:candidates=8,warmup=5ep, multi-attempt:k=16"""
    budget: str = "20ep"
    """how long to train: 20ep, 4000 steps, 400k samples, 10min, 1.2M cost"""
    seed: int = 0
    """of split, weights, order and mixes"""
    log: str = ""
    """where metrics go beside metrics.jsonl: tensorboard, wandb, mlflow (extras), separated by commas"""
    source: Annotated[DataOptions, Flat] = DATA_DEFAULTS
    settings: Annotated[Settings, Flat] = DEFAULTS

    def run(self) -> int:
        """Train, write the run's page, say how well it went."""
        from lessonplan.plan import Plan
        from lessonplan.report import write_run
        from lessonplan.train import fit
        from lessonplan.train.loggers import loggers

        run = fit(
            self.model,
            load_for(self.model, self.source, self.settings, self.seed),
            Plan.from_texts(select=self.select, order=self.order, mix=self.mix),
            self.budget,
            seed=self.seed,
            out=self.out,
            callbacks=loggers(self.log, self.out),
            **self.settings.model_dump(),
        )
        write_run(self.out)
        parts = [
            f"{name} accuracy {run.result[name]['accuracy']:.4f}" for name in ("val", "test") if name in run.result
        ]
        print(f"{', '.join(parts) or 'trained'} after {run.result['samples']} sample passes")
        print(f"page: {self.out / 'index.html'}")
        return 0
