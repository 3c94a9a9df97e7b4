"""Recipes of searches for the best order, as files that a person can read."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lessonplan.errors import ConfigError
from lessonplan.lab.datasets import missing
from lessonplan.lab.ordering.search import search_orderings
from lessonplan.lab.recipe import Scale
from lessonplan.report.ordering import print_ordering
from lessonplan.stored import parse_yaml
from lessonplan.stores import in_place


class SearchRecipe(BaseModel):
    """A search of a source, at several scales."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """how it is called for"""
    title: str
    """one line"""
    citation: str
    """where the source has it"""
    needs: str
    """the data set of the source, a key of ``lessonplan.lab.datasets``"""
    scales: dict[Scale, dict[str, Any]]
    """for each scale the arguments of ``search_orderings``"""
    notes: list[str] = Field(default_factory=list)
    """how ours differs from the source's, and why"""


@dataclass
class SearchOutcome:
    """What such a recipe gave.

    Attributes:
        recipe: what was run.
        summary: see ``search_orderings``.
    """

    recipe: SearchRecipe
    summary: dict[str, Any]
    failures: int = 0

    def to_json(self) -> dict[str, Any]:
        """What it gave as plain data."""
        return {"summary": self.summary}

    def show(self) -> None:
        """Print the table and what became of the claims."""
        print_ordering(self.summary)


def search_recipes() -> dict[str, SearchRecipe]:
    """Every recipe of a search that is shipped, by name."""
    folder = resources.files("lessonplan.lab.ordering") / "recipes"
    found = [
        SearchRecipe(**parse_yaml(f.read_text(encoding="utf-8")))
        for f in folder.iterdir()
        if f.name.endswith(".yaml")
    ]
    return {recipe.name: recipe for recipe in sorted(found, key=lambda recipe: recipe.name)}


@in_place
def reproduce_ordering(
    name: str = "thesis-2.1",
    scale: Scale = "smoke",
    *,
    out: str | Path,
    data: str | None = None,
    test: str | None = None,
    jobs: int | None = None,
    device: str = "auto",
) -> SearchOutcome:
    """Run a search of a source; called again it goes on where it stopped.

    Args:
        name: of the recipe.
        scale: ``"smoke"`` (seconds, on embedded digits), ``"cpu"`` (in full, at most 15 minutes on 2 cores),
            ``"gpu"`` (the same on one GPU), ``"paper"`` (the same, evaluated on test data).
        out: folder of the results.
        data: MNIST, for example ``"idx:PATH"``; ``"smoke"`` needs none.
        test: for ``"paper"``, where the data have no test part.
        jobs: trees at a time.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.

    Raises:
        ConfigError: unknown recipe or scale. DataError: the data were not named, or cannot be read.
    """
    recipes = search_recipes()
    recipe = recipes.get(name)
    if recipe is None or scale not in recipe.scales:
        raise ConfigError(f"{name} has no scale {scale!r}: give smoke, cpu, gpu or paper of {', '.join(recipes)}")
    given = dict(recipe.scales[scale])
    source = given.pop("data", None) if data is None else data
    given.pop("data", None)
    if source is None:
        raise missing(recipe.needs, name, scale)
    given["classes"] = tuple(given["classes"])
    title = f"{recipe.title} ({name}, scale {scale})"
    summary = search_orderings(source, out=out, title=title, test=test, jobs=jobs, device=device, **given)
    return SearchOutcome(recipe, summary)
