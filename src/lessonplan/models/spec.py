"""How models are spelled and what sizes they allow: plain Python, so that a typo costs no torch import."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lessonplan.errors import ConfigError, unknown

PATTERNS = {
    "tiny": r"tiny",
    "lenet": r"lenet",
    "fcnet": r"fcnet-(\d+)",
    "wrn": r"wrn-(\d+)-(\d+)",
    "preact-resnet": r"preact-resnet-(\d+)",
    "resnet-18": r"resnet-18",
    "dla": r"dla",
    "simple-dla": r"simple-dla",
    "vgg-11": r"vgg-11",
    "densenet-bc": r"densenet-bc-(\d+)-(\d+)",
}
"""Regular expression of every family's spelling; the groups are its numbers."""

MIN_SIDE = {
    "tiny": 8,
    "lenet": 16,  # 16 -> conv 12 -> pool 6 -> conv 2 -> pool 1
    "fcnet": 1,
    "wrn": 4,
    "preact-resnet": 8,
    "resnet-18": 8,
    "dla": 8,
    "simple-dla": 8,
    "vgg-11": 17,  # the last of five halvings (rounded up) still has two pixels to choose from
    "densenet-bc": 4,
}
"""Smallest height and width, in pixels, at which no stage of the network runs on nothing."""

_EXAMPLES = (
    "tiny",
    "lenet",
    "fcnet-100",
    "wrn-16-1",
    "wrn-40-4",
    "wrn-28-10",
    "preact-resnet-18",
    "preact-resnet-56",
    "resnet-18",
    "dla",
    "simple-dla",
    "vgg-11",
    "densenet-bc-100-12",
    "densenet-bc-190-40",
)


@dataclass(frozen=True)
class ModelSpec:
    """A spelling taken apart: ``"wrn-28-10"`` is family ``"wrn"`` with numbers ``(28, 10)``."""

    family: str
    numbers: tuple[int, ...] = ()
    name: str = ""  # what stands behind "timm:"


def model_names() -> list[str]:
    """Spellings of our own models; the numbers in them may be changed.

    >>> model_names()[:4]
    ['tiny', 'lenet', 'fcnet-100', 'wrn-16-1']
    """
    return list(_EXAMPLES)


def parse(spec: str) -> ModelSpec:
    """Take a model's spelling apart and check its numbers.

    Raises:
        ConfigError: the name is unknown (the nearest is suggested) or a number is not allowed.

    >>> parse("wrn-28-10")
    ModelSpec(family='wrn', numbers=(28, 10), name='')
    """
    text = spec.strip()
    if text.lower().startswith("timm:"):
        name = text[len("timm:") :].strip()
        if not name:
            raise ConfigError("model 'timm:' lacks a name: write one behind it, for example 'timm:resnet18'")
        return ModelSpec("timm", name=name)
    for family, pattern in PATTERNS.items():
        if match := re.fullmatch(pattern, text.lower(), flags=re.ASCII):
            numbers = tuple(int(group) for group in match.groups())
            _check_numbers(family, numbers)
            return ModelSpec(family, numbers)
    raise unknown("model", spec, [*_EXAMPLES, "timm:NAME"])


def check_model(spec: str, shape: tuple[int, ...] | None = None) -> None:
    """Raise if a model cannot be built, without importing torch.

    Args:
        spec: the model's spelling, see `lessonplan.models.build_model`.
        shape: shape of one input, ``(C, H, W)`` or ``(F,)``; None checks the spelling only.

    Raises:
        ConfigError: unknown name, a number that is not allowed, or inputs the model cannot take.

    >>> check_model("vgg-11", (1, 8, 8))
    Traceback (most recent call last):
    lessonplan.errors.ConfigError: vgg-11 needs images of at least 17 x 17 pixels, got 8 x 8: ...
    """
    model = parse(spec)
    if shape is not None:
        check_shape(model, shape)


def check_shape(model: ModelSpec, shape: tuple[int, ...]) -> None:
    """Raise `ConfigError` if the model cannot take inputs of this shape, ``(C, H, W)`` or ``(F,)``."""
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ConfigError(
            f"input shape {shape} is neither (channels, height, width) nor (features,): give one of the two"
        )
    if len(shape) == 1:
        if model.family != "fcnet":
            name = model.name or model.family
            raise ConfigError(
                f"{name} takes images (channels, height, width), got shape {shape}: use fcnet-N for flat features"
            )
    elif model.family != "timm":
        image_sides(model.family, (shape[1], shape[2]))


def image_sides(family: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image size (one number means square), checked against the family's minimum.

    >>> image_sides("lenet", 28)
    (28, 28)
    """
    height, width = (size, size) if isinstance(size, int) else size
    least = MIN_SIDE[family]
    if min(height, width) < least:
        raise ConfigError(
            f"{family} needs images of at least {least} x {least} pixels, got {height} x {width}: "
            "enlarge them or use a smaller model such as tiny (from 8 x 8) or fcnet-100 (any size)"
        )
    return height, width


def blocks_per_stage(family: str, depth: int, period: int, offset: int) -> int:
    """The n of ``depth = period * n + offset``, n >= 1: how many blocks each stage of a deep network has.

    >>> blocks_per_stage("wrn", 28, period=6, offset=4)
    4
    """
    blocks, rest = divmod(depth - offset, period)
    if rest or blocks < 1:
        some = ", ".join(str(period * n + offset) for n in range(1, 5))
        also = "18 or " if family == "preact-resnet" else ""
        raise ConfigError(
            f"{family} of depth {depth} does not exist: the depth must be {also}{period}n + {offset} ({some}, ...)"
        )
    return blocks


def at_least_one(what: str, value: int) -> int:
    """The value itself if it is 1 or more; otherwise a `ConfigError` that names it."""
    if value < 1:
        raise ConfigError(f"{what} must be 1 or more, got {value}")
    return value


def _check_numbers(family: str, numbers: tuple[int, ...]) -> None:
    if family == "wrn":
        blocks_per_stage("wrn", numbers[0], period=6, offset=4)
        at_least_one("widening factor of wrn", numbers[1])
    elif family == "preact-resnet" and numbers[0] != 18:
        blocks_per_stage("preact-resnet", numbers[0], period=6, offset=2)
    elif family == "densenet-bc":
        blocks_per_stage("densenet-bc", numbers[0], period=6, offset=4)
        at_least_one("growth rate of densenet-bc", numbers[1])
    elif family == "fcnet":
        at_least_one("hidden units of fcnet", numbers[0])
