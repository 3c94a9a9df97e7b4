"""Attacks as text: ``"fgsm"``, ``"pgd:steps=40,restarts=5"``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from lessonplan.errors import ConfigError, unknown
from lessonplan.text_options import read_options

if TYPE_CHECKING:
    import torch

    from lessonplan.evaluate.adversarial import Attack

Loss = Literal["cross-entropy", "margin"]


@dataclass(frozen=True)
class Fgsm:
    """One step along the gradient's sign."""

    name: ClassVar[str] = "fgsm"
    loss: Loss = "cross-entropy"

    def attack(self, generator: torch.Generator) -> Attack:
        """The function that does it."""
        from lessonplan.evaluate import adversarial

        return partial(adversarial.fgsm, loss=self.loss)


@dataclass(frozen=True)
class Bim:
    """Small steps from the image itself."""

    name: ClassVar[str] = "bim"
    steps: int = 10
    step_size: float | None = None
    loss: Loss = "cross-entropy"

    def attack(self, generator: torch.Generator) -> Attack:
        """The function that does it."""
        from lessonplan.evaluate import adversarial

        return partial(adversarial.bim, **vars(self))


@dataclass(frozen=True)
class Mim:
    """Small steps with momentum."""

    name: ClassVar[str] = "mim"
    steps: int = 10
    step_size: float | None = None
    decay: float = 1.0
    loss: Loss = "cross-entropy"

    def attack(self, generator: torch.Generator) -> Attack:
        """The function that does it."""
        from lessonplan.evaluate import adversarial

        return partial(adversarial.mim, **vars(self))


@dataclass(frozen=True)
class Pgd:
    """Projected gradient descent from random points of the ball."""

    name: ClassVar[str] = "pgd"
    steps: int = 20
    step_size: float | None = None
    restarts: int = 1
    loss: Loss = "cross-entropy"

    def attack(self, generator: torch.Generator) -> Attack:
        """The function that does it."""
        from lessonplan.evaluate import adversarial

        return partial(adversarial.pgd, **vars(self), generator=generator)


@dataclass(frozen=True)
class AutoAttack:
    """The parameter-free ensemble; an extra, ``pip install lessonplan[autoattack]``."""

    name: ClassVar[str] = "autoattack"
    version: Literal["standard", "rand"] = "standard"

    def attack(self, generator: torch.Generator) -> Attack:
        """The function that does it."""
        from lessonplan.evaluate import adversarial

        return partial(adversarial.autoattack, version=self.version)


AttackSpec: TypeAlias = Fgsm | Bim | Mim | Pgd | AutoAttack

KINDS: dict[str, Any] = {kind.name: kind for kind in (Fgsm, Bim, Mim, Pgd, AutoAttack)}
LOSSES = [name for name, kind in KINDS.items() if "loss" in kind.__dataclass_fields__]
"""The attacks whose loss can be chosen: they are made on the margin too, and on defences."""


def read_attack(text: str) -> AttackSpec:
    """An attack by its name and options.

    Raises:
        ConfigError: a name or an option is unknown, or a value does not fit.

    >>> read_attack("pgd:restarts=5").restarts
    5
    """
    name, _, options = text.strip().partition(":")
    if name not in KINDS:
        raise unknown("attack", name, KINDS)
    given, _ = read_options(KINDS[name], options)
    found: AttackSpec = KINDS[name](**given)
    return found


def split_attacks(text: str) -> list[str]:
    """Attacks separated by commas, the options of each kept with it.

    >>> split_attacks("fgsm,pgd:steps=40,restarts=5,mim")
    ['fgsm', 'pgd:steps=40,restarts=5', 'mim']
    """
    found: list[str] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        if "=" in item and ":" not in item and found:
            found[-1] += f",{item}"
        else:
            found.append(item)
    return found


def with_margin(attack: AttackSpec) -> AttackSpec | None:
    """The same attack on the margin; None where it is on it already, or has no loss to choose."""
    if isinstance(attack, AutoAttack) or attack.loss == "margin":
        return None
    return replace(attack, loss="margin")


def check_names(attacks: Sequence[str]) -> None:
    """Raise a ``ConfigError`` if an attack cannot be read, or one is named twice."""
    names = [read_attack(text).name for text in attacks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"the attack {twice} is given twice: its results have one place")
