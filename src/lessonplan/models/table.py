"""The networks: a new one is a file and a row here. Plain Python, so that a typo costs no torch import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lessonplan.models.sizes import at_least_one, blocks_per_stage


def _any(*numbers: int) -> None:
    """Every number is allowed, or there are none."""


def _wrn(depth: int, widen: int) -> None:
    blocks_per_stage("wrn", depth, period=6, offset=4)
    at_least_one("widening factor of wrn", widen)


def _preact_resnet(depth: int) -> None:
    if depth != 18:
        blocks_per_stage("preact-resnet", depth, period=6, offset=2)


def _densenet(depth: int, growth: int) -> None:
    blocks_per_stage("densenet-bc", depth, period=6, offset=4)
    at_least_one("growth rate of densenet-bc", growth)


def _fcnet(hidden: int) -> None:
    at_least_one("hidden units of fcnet", hidden)


@dataclass(frozen=True)
class Family:
    """Networks that differ by the numbers in their spelling.

    Attributes:
        pattern: regular expression of the spelling; its groups are the numbers.
        least_side: smallest height and width, in pixels, at which no stage runs on nothing.
        home: ``module:Class`` in this package. The class takes the numbers, ``in_channels`` and ``num_classes``,
            and ``image_size`` where it names it; its other keyword arguments are options of the spelling.
        examples: spellings for lists and errors.
        check: raises a ``ConfigError`` for numbers that are not allowed.
        flat: whether features ``(F,)`` will do as well as images.
    """

    pattern: str
    least_side: int
    home: str
    examples: tuple[str, ...]
    check: Callable[..., None] = _any
    flat: bool = False


FAMILIES: dict[str, Family] = {
    "tiny": Family(r"tiny", 8, "tiny:TinyResNet", ("tiny",)),
    # 16 -> conv 12 -> pool 6 -> conv 2 -> pool 1
    "lenet": Family(r"lenet", 16, "lenet:LeNet", ("lenet",)),
    "fcnet": Family(r"fcnet-(\d+)", 1, "fcnet:FCNet", ("fcnet-100",), _fcnet, flat=True),
    "wrn": Family(r"wrn-(\d+)-(\d+)", 4, "wide_resnet:WideResNet", ("wrn-16-1", "wrn-40-4", "wrn-28-10"), _wrn),
    "preact-resnet": Family(
        r"preact-resnet-(\d+)",
        8,
        "preact_resnet:PreActResNet",
        ("preact-resnet-18", "preact-resnet-56"),
        _preact_resnet,
    ),
    "resnet-18": Family(r"resnet-18", 8, "resnet:ResNet18", ("resnet-18",)),
    "dla": Family(r"dla", 8, "dla:DLA", ("dla",)),
    "simple-dla": Family(r"simple-dla", 8, "dla:SimpleDLA", ("simple-dla",)),
    # the last of five halvings (rounded up) still has two pixels to choose from
    "vgg-11": Family(r"vgg-11", 17, "vgg:VGG11", ("vgg-11",)),
    # four halvings
    "vgg-gap": Family(r"vgg-gap", 16, "vgg:VGGGAP", ("vgg-gap",)),
    "densenet-bc": Family(
        r"densenet-bc-(\d+)-(\d+)",
        4,
        "densenet:DenseNetBC",
        ("densenet-bc-100-12", "densenet-bc-190-40"),
        _densenet,
    ),
}
