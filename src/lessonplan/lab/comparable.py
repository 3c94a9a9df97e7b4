"""What a number was measured with, and whether two of them may stand side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from lessonplan.lab.datasets import KNOWN
from lessonplan.train.budget import Budget

HELD_OUT = 0.02
"""The share of the source's training images that ours may hold out for validation."""
_SAME = 0.01  # of a number of epochs, which a budget in samples rounds


class Setting(BaseModel):
    """What a source's numbers were measured with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    """the data set, a key of ``lessonplan.lab.datasets`` where a recipe can ask for it"""
    model: str
    """the network, as ``lessonplan.models`` calls it"""
    per_class: int | None = None
    """training images of a class; None: all"""
    epochs: float | None = None
    """passes over the training images; None: the source does not say"""


@dataclass(frozen=True)
class Ran:
    """What our numbers were measured with.

    Attributes:
        data: key of the data set; None for one that the recipe brought, or where other data stood in.
        source: the data as they were named.
        model: the network.
        budget: as written.
        images: training images, or None where nobody knows yet.
    """

    data: str | None
    source: str
    model: str
    budget: str
    images: int | None

    @property
    def epochs(self) -> float | None:
        """Passes over the training images; None where methods get other numbers of them (cost, time, updates)."""
        budget = Budget.parse(self.budget)
        if budget.unit == "epochs":
            return budget.amount
        return budget.amount / self.images if budget.unit == "samples" and self.images else None

    def __str__(self) -> str:
        images = f" ({self.images:,} training images)" if self.images is not None else ""
        data = KNOWN[self.data].title if self.data is not None else self.source
        return f"{data}{images}, {self.model}, {self.budget}"

    def agrees(self, setting: Setting) -> bool:
        """Whether a number of ours may stand beside a source's: data set, its size, network and epochs are equal.

        Up to 2% of all images may be held out for validation. A source that does not say how long it trained
        agrees with any number of epochs.
        """
        if self.data is None or self.data != setting.data or self.model != setting.model:
            return False
        wanted = training_images(setting)
        if wanted is None or self.images is None:
            return False
        least = wanted * (1 - HELD_OUT) if setting.per_class is None else wanted
        if not least <= self.images <= wanted:
            return False
        if setting.epochs is None:
            return True
        return self.epochs is not None and abs(self.epochs / setting.epochs - 1) <= _SAME


def training_images(setting: Setting) -> int | None:
    """How many images the source trained on; None where the data set is not known here."""
    known = KNOWN.get(setting.data)
    if known is None or known.train is None or known.classes is None:
        return None
    return known.train if setting.per_class is None else setting.per_class * known.classes


def planned_images(data: str | None, options: Mapping[str, Any]) -> int | None:
    """How many images a part trains on by its options, before it has run.

    Args:
        data: key of its data set; None for one that the recipe brings.
        options: of ``lessonplan.data.load``; as in a comparison a fifth is held out if nothing is said.
    """
    known = KNOWN.get(data) if data is not None else None
    if known is None or known.train is None or known.classes is None:
        return None
    if "per_class" in options:
        return int(options["per_class"]) * known.classes
    if "val_per_class" in options:
        return known.train - int(options["val_per_class"]) * known.classes
    return round(known.train * (1 - float(options.get("val_fraction", 0.2))))


def counted_images(results: Mapping[str, Any]) -> int | None:
    """How many images the runs of a comparison did train on, from what they drew; None before one has finished."""
    for method in results["methods"]:
        for run in method["runs"]:
            if run.get("epochs") and run.get("raw_samples"):
                images: int = round(run["raw_samples"] / run["epochs"])
                return images
    return None


def counted_classes(results: Mapping[str, Any]) -> int | None:
    """How many classes the runs of a comparison told apart; None before one has finished.

    In results that do not hold it, the training images divided by those of a class, where their number was given.
    """
    for method in results["methods"]:
        for run in method["runs"]:
            if run.get("classes"):
                return int(run["classes"])
    per_class, images = results["config"].get("data_options", {}).get("per_class"), counted_images(results)
    return round(images / per_class) if per_class and images else None
