"""The data sets of the sources: how large they are, where they live, how to check a folder."""

from __future__ import annotations

from dataclasses import dataclass

from lessonplan.errors import DataError


@dataclass(frozen=True)
class KnownDataset:
    """A public data set that a recipe asks for."""

    title: str
    size: str
    home: str
    example: str


KNOWN = {
    "cifar-10": KnownDataset(
        "CIFAR-10", "163 MB", "https://www.cs.toronto.edu/~kriz/cifar.html", "cifar:cifar-10-batches-py"
    ),
    "cifar-100": KnownDataset(
        "CIFAR-100", "161 MB", "https://www.cs.toronto.edu/~kriz/cifar.html", "cifar:cifar-100-python"
    ),
}


def missing(key: str, recipe: str, scale: str) -> DataError:
    """What to say when a recipe's data were not named."""
    known = KNOWN[key]
    return DataError(
        f"{recipe} at scale {scale} needs {known.title} ({known.size}, {known.home}): unpack it and give for"
        f" example --data {known.example}; lessonplan preview --data {known.example} --out check.png checks it"
    )
