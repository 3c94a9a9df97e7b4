"""Recipes: the experiments of the sources as files that a person can read."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from lessonplan.errors import unknown

Scale = Literal["smoke", "cpu", "gpu", "paper"]
Measure = Literal["test_accuracy", "param_norm"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Claim(_Strict):
    """A sentence of a source that a pair of methods can confirm or contradict."""

    text: str
    """the claim, in our words, with the place in the source"""
    method: str
    """the method that the claim says has more of the measure"""
    than: str
    """the method that it says has less"""
    measure: Measure = "test_accuracy"
    """what is compared"""


class Table(_Strict):
    """Numbers of the source, to stand beside ours."""

    title: str
    """what the numbers are"""
    columns: list[str]
    """headings"""
    rows: list[list[str | float | None]]
    """a row a method; its first cell is the label"""
    methods: list[str | None] = Field(default_factory=list)
    """for each row the method of ours that belongs beside it"""
    measure: Literal["error", "accuracy"] = "error"
    """what the numbers are, in per cent"""


class FigureSpec(_Strict):
    """A figure of the source that is drawn from our runs."""

    kind: Literal["mixed", "gcc", "norm", "error-reduction"]
    """what is drawn"""
    title: str
    """with the number of the source's figure"""
    methods: list[str] = Field(default_factory=list)
    """methods shown; all if empty"""
    k: int = 2
    """images in a sum, for mixed and gcc"""


class Part(_Strict):
    """One comparison of a scale."""

    data: str | None = None
    """source of the samples; None: the user names it with --data"""
    model: str = "tiny"
    """network"""
    budget: str
    """training of each run"""
    seeds: int | list[int] = 3
    """how many, or which"""
    data_options: dict[str, Any] = Field(default_factory=dict)
    """options of ``lessonplan.data.load``"""
    settings: dict[str, Any] = Field(default_factory=dict)
    """settings of ``fit``"""
    methods: list[str] | None = None
    """names of the recipe's methods that take part; all if not given"""


class Recipe(_Strict):
    """An experiment of a source, at several scales."""

    name: str
    """how it is called for"""
    title: str
    """one line"""
    citation: str
    """where the source has it"""
    needs: str
    """the data set of the source, a key of ``lessonplan.lab.datasets``"""
    methods: dict[str, Any]
    """named plans, see ``lessonplan.lab.methods``"""
    reference: str = "erm"
    """the method the others are compared with"""
    scales: dict[Scale, dict[str, Part]]
    """for each scale its comparisons by name; a single one may be called "all" """
    notes: list[str] = Field(default_factory=list)
    """how ours differs from the source's, and why"""
    tables: list[Table] = Field(default_factory=list)
    """the source's numbers"""
    claims: list[Claim] = Field(default_factory=list)
    """what the source says its numbers show"""
    figures: list[FigureSpec] = Field(default_factory=list)
    """the source's figures"""


@lru_cache(maxsize=1)
def all_recipes() -> tuple[Recipe, ...]:
    """Every recipe that is shipped, by name."""
    folder = resources.files("lessonplan.lab") / "recipes"
    texts = [file.read_text() for file in folder.iterdir() if file.name.endswith(".yaml")]
    return tuple(sorted((Recipe(**yaml.safe_load(text)) for text in texts), key=lambda r: r.name))


def find_recipe(name: str) -> Recipe:
    """A recipe by its name; the nearest name is offered if there is none."""
    recipes = {recipe.name: recipe for recipe in all_recipes()}
    if name not in recipes:
        raise unknown("recipe", name, recipes)
    return recipes[name]
