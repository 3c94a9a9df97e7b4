"""``lessonplan recipes`` and ``lessonplan reproduce``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lessonplan.commands.answer import TALK, Answer, Talk
from lessonplan.commands.common import Flat, Folder, in_folder, read_seeds


@dataclass(frozen=True)
class Recipes:
    """Options of ``lessonplan recipes``."""

    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """List the recipes."""
        from lessonplan.lab.ordering.recipe import search_recipes
        from lessonplan.lab.recipe import all_recipes

        recipes = {r.name: (r.title, list(r.scales)) for r in all_recipes()}
        recipes |= {r.name: (r.title, list(r.scales)) for r in search_recipes().values()}
        listed = [
            {"name": name, "title": title, "scales": scales} for name, (title, scales) in sorted(recipes.items())
        ]

        def show() -> None:
            for recipe in listed:
                print(f"{recipe['name']:<24} {recipe['title']}  [{', '.join(recipe['scales'])}]")

        return Answer({"recipes": listed}, show)


@dataclass(frozen=True)
class Reproduce:
    """Options of ``lessonplan reproduce``."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """recipe, see lessonplan recipes"""
    out: Folder
    """folder of the results, or a URL such as s3://bucket/mine"""
    scale: Literal["smoke", "cpu", "gpu", "paper"] = "smoke"
    """seconds; at most half an hour on two cores; at most 25 minutes on one data-centre GPU; the source's
    size, what differs stands in its notes (pretrained-few-labels takes hours on two cores)"""
    data: str | None = None
    """where the data set that the recipe names lies, for example parquet:PATH or cifar:PATH"""
    seeds: str | None = None
    """how many seeds, or which, instead of the recipe's"""
    budget: str | None = None
    """training of each run instead of the recipe's"""
    jobs: int | None = None
    """runs at a time"""
    only: str | None = None
    """the parts to run, as a pattern over their names, for example "batch 1*" """
    model: str | None = None
    """network instead of the recipe's, written as for train"""
    weights: str | None = None
    """weights instead of the recipe's: pretrained, a file, or the folder of a finished run"""
    ood: str | None = None
    """other data that networks are to tell from their own (lecture-ood), separated by commas, instead of the
    recipe's: noise, folders of images, or data such as cifar:cifar-10-batches-py"""
    talk: Annotated[Talk, Flat] = TALK

    def run(self) -> Answer:
        """Run the recipe, print its tables and what became of the source's claims."""
        return in_folder(self.out, self._reproduce)

    def _reproduce(self, out: Path) -> Answer:
        from lessonplan.lab.reproduction import reproduce

        outcome = reproduce(
            self.name,
            self.scale,
            out=out,
            data=self.data,
            seeds=read_seeds(self.seeds) if self.seeds is not None else None,
            budget=self.budget,
            jobs=self.jobs,
            only=self.only,
            model=self.model,
            weights=self.weights,
            ood=self.ood,
        )
        page = out / "index.html"

        def show() -> None:
            outcome.show()
            print(f"page: {page}")

        found = {"folder": out, "page": page, "recipe": self.name, "scale": self.scale, **outcome.to_json()}
        return Answer(found, show, 1 if outcome.failures else 0)
