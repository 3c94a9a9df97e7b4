"""``lessonplan evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from lessonplan.commands.common import DataOptions, Flat
from lessonplan.errors import ConfigError

if TYPE_CHECKING:
    from lessonplan.lab.evaluation import Evaluation, Subject

_OF_THE_RUN = DataOptions(data="")


@dataclass(frozen=True)
class Evaluate:
    """Options of ``lessonplan evaluate``."""

    trained: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """folder of a finished run; without one give --model and --data"""
    out: Path | None = None
    """folder for evaluation.json, index.html and pictures/ (RUN/evaluation if not given); the same command again
    does only what is missing"""
    on: Literal["test", "val", "train"] = "test"
    """part of the data that is judged"""
    ttsa: str | None = None
    """test-time sums, for example k=4,copies=16 (also weight=1, of=probabilities)"""
    mixup_inference: bool = False
    """Mixup Inference beside the test-time sums"""
    attacks: str = ""
    """fgsm, bim, mim, pgd, autoattack, separated by commas, with options: pgd:steps=40,restarts=5,loss=margin"""
    eps: str = "8/255"
    """largest change of a pixel, in [0, 1]"""
    ood: str = ""
    """other data, separated by commas: noise, folders of images, or data such as digits or idx:PATH"""
    localise: bool = False
    """class activation maps and boxes from them"""
    between: bool = False
    """errors and gradients between training samples"""
    limit: int = 2000
    """most samples for all but classification"""
    adaptive_limit: int = 100
    """most images for attacks on test-time sums, which cost 20 times as much"""
    model: str | None = None
    """a network of yours: module:factory or FILE.py:factory, from normalised samples to logits"""
    weights: Path | None = None
    """its weights, a safetensors file"""
    mean: str | None = None
    """mean of its normalisation in [0, 1] pixels, a number or one a channel; measured on the data if not given"""
    std: str | None = None
    """its deviation, likewise"""
    seed: int = 0
    """of subsets, partners, starts and noise, and of the split without a run"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: int | None = None
    """CPU threads"""
    source: Annotated[DataOptions, Flat] = _OF_THE_RUN

    def run(self) -> int:
        """Evaluate, print the tables, name the page."""
        import torch

        from lessonplan.lab.evaluation import evaluate
        from lessonplan.report.evaluation_terminal import print_evaluation

        out = self._out()
        options = self._options()
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads() or before)
        try:
            results = evaluate(self._subject(), options, out=out)
        finally:
            torch.set_num_threads(before)
        print_evaluation(results)
        print(f"page: {out / 'index.html'}")
        return 0

    def _out(self) -> Path:
        if self.out is not None:
            return self.out
        if self.trained is None:
            raise ConfigError("--out is missing: give a folder for the evaluation")
        return self.trained / "evaluation"

    def _threads(self) -> int | None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads {self.threads}: give at least 1")
        return self.threads

    def _options(self) -> Evaluation:
        from lessonplan.lab.evaluation import Evaluation, TestTime
        from lessonplan.lab.evaluation.attacks import split_attacks

        return Evaluation.make(
            on=self.on,
            ttsa=TestTime.parse(self.ttsa) if self.ttsa is not None else None,
            mixup_inference=self.mixup_inference,
            attacks=tuple(split_attacks(self.attacks)),
            eps=self.eps,
            ood=tuple(filter(None, (name.strip() for name in self.ood.split(",")))),
            localise=self.localise,
            between=self.between,
            limit=self.limit,
            adaptive_limit=self.adaptive_limit,
            seed=self.seed,
        )

    def _subject(self) -> Subject:
        from lessonplan.lab.evaluation import model_subject, run_subject

        if self.trained is not None:
            unused = [name for name in ("weights", "mean", "std") if getattr(self, name) is not None]
            if unused:
                raise ConfigError(f"--{unused[0]} is for networks without a run, and {self.trained} has its own")
            data = self.source.data or None
            loading = self.source.loading() if data is not None else self._given()
            return run_subject(self.trained, model=self.model, data=data, device=self.device, **loading)
        if self.model is None or not self.source.data:
            raise ConfigError("give the folder of a run, or --model module:factory --weights FILE --data WHAT")
        return model_subject(
            self.model,
            self.weights,
            self.source.data,
            mean=_numbers("mean", self.mean),
            std=_numbers("std", self.std),
            device=self.device,
            seed=self.seed,
            **self.source.loading(),
        )

    def _given(self) -> dict[str, Any]:
        """The options of loading that were given for a run's own data."""
        values = {
            item.name: getattr(self.source, item.name) for item in fields(DataOptions) if item.name != "data"
        }
        return {name: value for name, value in values.items() if value != getattr(_OF_THE_RUN, name)}


def _numbers(name: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--{name} {text!r}: give a number, or one a channel: 0.49,0.48,0.45") from None
