"""The data sets of the sources: how large they are, where they live, how to check a folder."""

from __future__ import annotations

from dataclasses import dataclass

from lessonplan.errors import DataError


@dataclass(frozen=True)
class KnownDataset:
    """A public data set that a recipe asks for.

    ``classes`` and ``train``, the images or recordings of its training part, are None where sources differ.
    """

    title: str
    size: str
    home: str
    example: str
    classes: int | None = None
    train: int | None = None


KNOWN = {
    "cifar-10": KnownDataset(
        "CIFAR-10",
        "163 MB",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "cifar:cifar-10-batches-py",
        10,
        50_000,
    ),
    "cifar-100": KnownDataset(
        "CIFAR-100",
        "161 MB",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "cifar:cifar-100-python",
        100,
        50_000,
    ),
    "mnist": KnownDataset("MNIST", "12 MB", "http://yann.lecun.com/exdb/mnist/", "idx:mnist", 10, 60_000),
    "tiny-imagenet-200": KnownDataset(
        "Tiny-ImageNet-200",
        "248 MB",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "folder:tiny-imagenet-200",
        200,
        100_000,
    ),
    "imagenet": KnownDataset(
        "ImageNet (ILSVRC 2012)",
        "155 GB",
        "https://www.image-net.org/challenges/LSVRC/2012/",
        "folder:ILSVRC/Data/CLS-LOC",
        1_000,
        1_281_167,
    ),
    "cub-200-2011": KnownDataset(
        "CUB-200-2011",
        "1.2 GB",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        "folder:CUB_200_2011",
        200,
        5_994,
    ),
    "speech-commands": KnownDataset(
        "Speech Commands", "2.4 GB", "https://arxiv.org/abs/1804.03209", "wav:speech_commands_v0.02"
    ),
    "clothing": KnownDataset(
        "photographs, for example the clothing dataset",
        "3,781 photographs of 10 classes",
        "https://github.com/alexeygrigorev/clothing-dataset-small",
        "folder:clothing-dataset-small",
    ),
    "fsdd": KnownDataset(
        "the Free Spoken Digit Dataset",
        "16 MB",
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
        "wav:recordings",
    ),
}


def missing(key: str, recipe: str, scale: str) -> DataError:
    """What to say when a recipe's data were not named."""
    known = KNOWN[key]
    return DataError(
        f"{recipe} at scale {scale} needs {known.title} ({known.size}, {known.home}): unpack it and give for"
        f" example --data {known.example}; lessonplan preview --data {known.example} --out check.png checks it"
    )
