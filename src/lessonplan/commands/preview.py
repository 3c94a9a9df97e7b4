"""``lessonplan preview``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import DATA_DEFAULTS, DataOptions, Flat
from lessonplan.errors import ConfigError, DataError
from lessonplan.progress import say


@dataclass(frozen=True)
class Preview:
    """Options of ``lessonplan preview``."""

    out: Path
    """PNG file to write"""
    mix: str = "sum:k=4"
    """how samples, augmented as --augment says, are mixed; none shows the augmentation alone"""
    count: int = 8
    """pictures to show"""
    seed: int = 0
    """which samples"""
    explain: bool = False
    """show how puzzle mixes: images, saliency, mask, moved blocks, result"""
    network: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """folder of a finished run, whose network mixes such as puzzle ask; an untrained one if not given"""
    source: Annotated[DataOptions, Flat] = DATA_DEFAULTS
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Draw."""
        from lessonplan.data import load
        from lessonplan.data.results_place import refuse_among_classes
        from lessonplan.lab.examples import mixed_images
        from lessonplan.lab.explanation import input_of, puzzle_steps, trained_network
        from lessonplan.plan import Plan
        from lessonplan.report import save_png

        if self.count < 1:
            raise ConfigError(f"--count {self.count}: give at least 1 picture")
        refuse_among_classes(self.out, self.source.data, named="--out ")
        plan = Plan.parse(self.mix)
        needs = input_of(self.network) if self.network is not None else None
        data = load(self.source.data, seed=self.seed, input=needs, **self.source.loading())
        model = trained_network(self.network, data) if self.network is not None else None
        draw = puzzle_steps if self.explain else mixed_images
        figure = draw(plan.mix, data, count=self.count, seed=self.seed, model=model)
        if figure is None:
            raise DataError(f"samples of shape {data.shape} are no images: nothing can be drawn")
        drawn = len(figure.images)
        if not self.explain and drawn < self.count:
            say(f"{len(data.train)} training pictures give {drawn}, where --count asks for {self.count}")
        save_png(figure, self.out)
        return Answer({"file": self.out, "mix": self.mix}, lambda: print(self.out))
