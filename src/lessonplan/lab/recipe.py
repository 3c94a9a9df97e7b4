"""Recipes: the experiments of the sources as files that a person can read."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lessonplan.errors import unknown
from lessonplan.evaluation import Evaluation
from lessonplan.lab.comparable import Ran, Setting, planned_images
from lessonplan.lab.datasets import KNOWN
from lessonplan.lab.measures import Measure
from lessonplan.stored import parse_yaml

Scale = Literal["smoke", "cpu", "gpu", "paper"]


_FOLDER = resources.files("lessonplan.lab") / "recipes"
_SUFFIX = ".yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pair(_Strict):
    """A sentence on two methods that their runs can confirm or contradict."""

    text: str
    """the claim, in our words, with the place in the source"""
    method: str
    """the method that the claim says has more of the measure"""
    than: str
    """the method that it says has less"""
    measure: Measure = "test_accuracy"
    """what is compared"""
    than_measure: Measure | None = None
    """what is taken of ``than``, where that is another measure; None: the same"""


class Claim(Pair):
    """A sentence of a source that a pair of methods can confirm or contradict within a part."""

    parts: str = "*"
    """of which parts it speaks, as a glob over their names; it is judged in no other"""


class Trend(Pair):
    """A sentence of a source on how the difference of two methods changes from part to part."""

    part: str
    """where the claim says the difference, method minus the other, is larger"""
    than_part: str
    """where it says it is smaller"""


class Table(_Strict):
    """Numbers of the source. Ours stand beside them where they were measured with the same, else apart."""

    title: str
    """what the numbers are"""
    of: list[Setting]
    """what they were measured with: one for all columns, or one for each column after the first; none where the
    source has no such numbers, and the table is ours"""
    columns: list[str]
    """headings"""
    rows: list[list[str | float | None]]
    """a row a method; its first cell is the label"""
    methods: list[str | None] = Field(default_factory=list)
    """for each row the method of ours that belongs beside it"""
    measure: Literal["error", "accuracy"] = "error"
    """what the numbers are, in per cent"""
    measures: list[Measure] = Field(default_factory=list)
    """what the columns after the first are, where they are not all ``measure``: ours stand in rows of their own"""
    percent: bool = False
    """whether shares of those columns are in per cent"""
    part: str | None = None
    """the part it belongs beside, and those whose names go on after a comma; None: all"""

    @model_validator(mode="after")
    def _measured_with_something(self) -> Table:
        numbers = any(cell is not None for row in self.rows for cell in row[1:])
        if len(self.of) not in ((1, len(self.columns) - 1) if numbers else (0,)):
            raise ValueError(
                f"table {self.title!r} has {len(self.of)} settings in 'of': give one, or one for each of its"
                f" {len(self.columns) - 1} columns, and none where the source has no numbers"
            )
        return self

    def beside(self, ran: Ran) -> list[str] | None:
        """The columns that numbers of ours may stand beside; None: no column may."""
        if len(self.of) == 1:
            return self.columns[1:] if ran.agrees(self.of[0]) else None
        found = [name for name, setting in zip(self.columns[1:], self.of, strict=False) if ran.agrees(setting)]
        return found or (None if self.of else self.columns[1:])


class FigureSpec(_Strict):
    """A figure of the source that is drawn from our runs."""

    kind: Literal["mixed", "gcc", "norm", "error-reduction", "surface"]
    """what is drawn"""
    title: str
    """with the number of the source's figure"""
    methods: list[str] = Field(default_factory=list)
    """methods shown; all if empty"""
    k: int = 2
    """images in a sum, for mixed and gcc"""


class Gains(_Strict):
    """A figure over several parts: what each method gains on the reference, against a number of the part."""

    title: str
    """headline"""
    against: str
    """what the number is, for the axis"""
    parts: dict[str, float]
    """the number of each part, in rising order; parts that did not run are left out"""


class Part(_Strict):
    """One comparison of a scale."""

    data: str | None = None
    """source of the samples; None: the user names it with --data"""
    needs: str | None = None
    """the data set that the user is to name, if it is not the recipe's"""
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
    instead: dict[str, Any] = Field(default_factory=dict)
    """methods of which this part has another form"""
    evaluate: Evaluation | None = None
    """what every run goes through after training"""


class Recipe(_Strict):
    """An experiment of a source, at several scales."""

    name: str
    """how it is called for"""
    title: str
    """one line"""
    citation: str
    """where the source has it"""
    needs: str | None = None
    """the data set of the source, a key of ``lessonplan.lab.datasets``; None: every part names its own data"""
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
    trends: list[Trend] = Field(default_factory=list)
    """what it says changes from part to part"""
    figures: list[FigureSpec] = Field(default_factory=list)
    """the source's figures"""
    gains: list[Gains] = Field(default_factory=list)
    """figures of the page over all parts"""

    def ran(
        self, part: Part, data: str | None = None, images: int | None = None, classes: int | None = None
    ) -> Ran:
        """What a part's numbers are measured with.

        Data of another number of classes than those that were asked for stand in for them, under their own name.

        Args:
            part: with the network and the budget that it ran with.
            data: what the user named, if the part brings no data.
            images: training images as they were counted; None: as the part's options say.
            classes: as they were counted; None: those of the data set that was asked for.
        """
        key = (part.needs or self.needs) if part.data is None else None
        if key is not None and classes is not None and KNOWN[key].classes not in (None, classes):
            key = None
        planned = planned_images(key, part.data_options)
        source = data or part.data or "data that are not named"
        return Ran(key, source, part.model, part.budget, planned if images is None else images)


def all_recipes() -> tuple[Recipe, ...]:
    """Every recipe that is shipped, by name."""
    return tuple(_read(name) for name in recipe_names())


def find_recipe(name: str) -> Recipe:
    """A recipe by its name; the nearest name is offered if there is none."""
    names = recipe_names()
    if name not in names:
        raise unknown("recipe", name, names)
    return _read(name)


def recipe_names() -> list[str]:
    """The names of the recipes that are shipped, each that of its file."""
    return sorted(file.name[: -len(_SUFFIX)] for file in _FOLDER.iterdir() if file.name.endswith(_SUFFIX))


@lru_cache
def _read(name: str) -> Recipe:
    return Recipe(**parse_yaml((_FOLDER / f"{name}{_SUFFIX}").read_text(encoding="utf-8")))
