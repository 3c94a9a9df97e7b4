"""``lessonplan evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import DataOptions, Flat, Folder, in_bytes, in_folder
from lessonplan.errors import ConfigError
from lessonplan.evaluation import Evaluation
from lessonplan.stores import at, fetched

if TYPE_CHECKING:
    from lessonplan.lab.evaluation import Subject

_OF_THE_RUN = DataOptions(data="")


def _option(name: str, annotation: Any, default: Any, description: str | None) -> tuple[str, Any, Any]:
    """An option of an evaluation as one of the command line: what is no plain value is text there."""
    if annotation not in (bool, int) and get_origin(annotation) is not Literal:
        if isinstance(default, float):
            default = str(Fraction(default).limit_denominator(255))
        annotation, default = (str | None, None) if default is None else (str, default or "")
    return name, Annotated[annotation, tyro.conf.arg(help=description)], default


_OPTIONS = [
    _option(name, field.annotation, field.default, field.description)
    for name, field in Evaluation.model_fields.items()
]
Asked: Any = make_dataclass("Asked", _OPTIONS, frozen=True)
_AS_IT_IS = Asked()


@dataclass(frozen=True)
class Evaluate:
    """Options of ``lessonplan evaluate``."""

    trained: Annotated[Folder | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """folder of a finished run, or its URL; without one give --model and --data"""
    out: Folder | None = None
    """folder for evaluation.json, index.html and pictures/ (RUN/evaluation if not given), or a URL; the same
    command again does only what is missing"""
    asked: Annotated[Asked, Flat] = _AS_IT_IS
    model: str | None = None
    """a network of yours: module:factory or FILE.py:factory, from normalised samples to logits"""
    weights: Path | None = None
    """its weights, a safetensors file"""
    mean: str | None = None
    """mean of its normalisation in [0, 1] pixels, a number or one a channel; measured on the data if not given"""
    std: str | None = None
    """its deviation, likewise"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: int | None = None
    """CPU threads; those that the run was trained with if not given"""
    source: Annotated[DataOptions, Flat] = _OF_THE_RUN
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Evaluate, print the tables, name the page."""
        run = fetched(self.trained) if self.trained is not None else None
        return in_folder(self._out(), lambda out: self._evaluate(run, out))

    def _evaluate(self, run: Path | None, out: Path) -> Answer:
        from lessonplan.lab.evaluation import evaluate
        from lessonplan.network.threads import cpu_threads
        from lessonplan.report.evaluation_terminal import print_evaluation

        options = Evaluation.make(**vars(self.asked))
        with cpu_threads(self._threads(run)):
            results = evaluate(self._subject(run), options, out=out)
        page = out / "index.html"

        def show() -> None:
            print_evaluation(results)
            print(f"page: {page}")

        return Answer({"folder": out, "page": page, **results}, show)

    def _out(self) -> str:
        if self.out is not None:
            return self.out
        if self.trained is None:
            raise ConfigError("--out is missing: give a folder for the evaluation")
        return at(self.trained, "evaluation")

    def _threads(self, run: Path | None) -> int | None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads {self.threads}: give at least 1")
        if self.threads is not None or run is None:
            return self.threads
        from lessonplan.train.run_folder import stored_threads

        return stored_threads(run)

    def _subject(self, run: Path | None) -> Subject:
        from lessonplan.lab.evaluation import model_subject, run_subject

        if run is not None:
            unused = [name for name in ("weights", "mean", "std") if getattr(self, name) is not None]
            if unused:
                raise ConfigError(f"--{unused[0]} is for networks without a run, and {self.trained} has its own")
            data = self.source.data or None
            loading = self.source.loading() if data is not None else self._given()
            return run_subject(run, model=self.model, data=data, device=self.device, **loading)
        if self.model is None or not self.source.data:
            raise ConfigError("give the folder of a run, or --model module:factory --weights FILE --data WHAT")
        return model_subject(
            self.model,
            self.weights,
            self.source.data,
            mean=_numbers("mean", self.mean),
            std=_numbers("std", self.std),
            device=self.device,
            seed=self.asked.seed,
            **self.source.loading(),
        )

    def _given(self) -> dict[str, Any]:
        """The options of loading that were given for a run's own data."""
        values = {
            item.name: getattr(self.source, item.name) for item in fields(DataOptions) if item.name != "data"
        }
        return in_bytes({name: value for name, value in values.items() if value != getattr(_OF_THE_RUN, name)})


def _numbers(name: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--{name} {text!r}: give a number, or one a channel: 0.49,0.48,0.45") from None
