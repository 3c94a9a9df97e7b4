"""How models are spelled and what sizes they allow: plain Python, so that a typo costs no torch import."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lessonplan.errors import ConfigError, unknown
from lessonplan.models.table import FAMILIES
from lessonplan.parts.own import is_own, load_own

_MOST_DIGITS = 6  # of a number in a network's name


@dataclass(frozen=True)
class ModelSpec:
    """A spelling taken apart: ``"wrn-28-10"`` is family ``"wrn"`` with numbers ``(28, 10)``."""

    family: str
    numbers: tuple[int, ...] = ()
    name: str = ""  # what stands behind "timm:" or "transformers:", or an address of the user's own
    options: str = ""


_LIBRARIES = {"timm": "timm:resnet18", "transformers": "transformers:microsoft/resnet-18"}
"""Whose models are spelled ``LIBRARY:NAME``, with an example."""


def model_names() -> list[str]:
    """Spellings of our own models; the numbers in them may be changed.

    >>> model_names()[:4]
    ['tiny', 'lenet', 'fcnet-100', 'wrn-16-1']
    """
    return [example for family in FAMILIES.values() for example in family.examples]


def parse(spec: str) -> ModelSpec:
    """Take a model's spelling apart and check its numbers.

    Raises:
        ConfigError: the name is unknown (the nearest is suggested) or a number is not allowed.

    >>> parse("wrn-28-10")
    ModelSpec(family='wrn', numbers=(28, 10), name='', options='')
    >>> parse("wrn-16-1:norm=group").options
    'norm=group'
    """
    text = spec.strip()
    if text.lower().startswith("hf-hub:"):
        return ModelSpec("timm", name=text)
    for library, example in _LIBRARIES.items():
        if text.lower().startswith(f"{library}:"):
            name = text[len(library) + 1 :].strip()
            if not name:
                raise ConfigError(f"model '{library}:' lacks a name: write one behind it, for example '{example}'")
            return ModelSpec(library, name=name)
    head, _, options = (piece.strip() for piece in text.partition(":"))
    for name, family in FAMILIES.items():
        if match := re.fullmatch(family.pattern, head.lower(), flags=re.ASCII):
            if any(len(group) > _MOST_DIGITS for group in match.groups()):
                break  # no network that anybody could build
            numbers = tuple(int(group) for group in match.groups())
            family.check(*numbers)
            return ModelSpec(name, numbers, options=options)
    if is_own(text):
        return ModelSpec("own", name=text)
    others = ["timm:NAME", "transformers:NAME", "hf-hub:ORG/NAME", "module:Class", "FILE.py:Class"]
    raise unknown("model", spec, [*model_names(), *others])


def model_identity(spec: str) -> dict[str, str]:
    """What a model's spelling leaves out of a run's identity: the content of the file, where it is the user's own.

    >>> model_identity("tiny")
    {}
    """
    model = parse(spec)
    return {"model_code": load_own(model.name).digest} if model.family == "own" else {}


def check_model(spec: str, shape: tuple[int, ...] | None = None) -> None:
    """Raise if a model cannot be built, without importing torch (but for one of the user's own).

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
    if model.family == "own":
        load_own(model.name)
    if shape is not None:
        check_shape(model, shape)


def check_shape(model: ModelSpec, shape: tuple[int, ...]) -> None:
    """Raise `ConfigError` if the model cannot take inputs of this shape, ``(C, H, W)`` or ``(F,)``."""
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ConfigError(
            f"input shape {shape} is neither (channels, height, width) nor (features,): give one of the two"
        )
    if model.family == "own":
        return
    if len(shape) == 1:
        if model.family in _LIBRARIES or not FAMILIES[model.family].flat:
            name = model.name or model.family
            raise ConfigError(
                f"{name} takes images (channels, height, width), got shape {shape}: use fcnet-N for flat features"
            )
    elif model.family not in _LIBRARIES:
        image_sides(model.family, (shape[1], shape[2]))


def image_sides(family: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image size (one number means square), checked against the family's minimum.

    >>> image_sides("lenet", 28)
    (28, 28)
    """
    height, width = (size, size) if isinstance(size, int) else size
    least = FAMILIES[family].least_side
    if min(height, width) < least:
        smaller = "tiny (from 8 x 8) or " if min(height, width) >= FAMILIES["tiny"].least_side else ""
        raise ConfigError(
            f"{family} needs images of at least {least} x {least} pixels, got {height} x {width}: "
            f"enlarge them or use a smaller model such as {smaller}fcnet-100 (any size)"
        )
    return height, width
