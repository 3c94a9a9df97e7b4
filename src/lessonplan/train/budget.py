"""How long to train, in any unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from lessonplan.errors import ConfigError

Unit = Literal["epochs", "steps", "samples", "seconds", "cost"]

_UNITS: dict[str, tuple[Unit, float]] = {
    "ep": ("epochs", 1), "epoch": ("epochs", 1), "epochs": ("epochs", 1),
    "step": ("steps", 1), "steps": ("steps", 1),
    "sample": ("samples", 1), "samples": ("samples", 1),
    "cost": ("cost", 1),
    "s": ("seconds", 1), "sec": ("seconds", 1), "seconds": ("seconds", 1),
    "min": ("seconds", 60), "minutes": ("seconds", 60),
    "h": ("seconds", 3600), "hours": ("seconds", 3600),
}  # fmt: skip
_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


class Spent(Protocol):
    """What a budget is measured against."""

    steps: int
    samples: int
    seconds: float
    cost: int

    @property
    def epochs(self) -> float: ...


@dataclass(frozen=True)
class Budget:
    """An amount of training.

    ``samples`` are sample passes through the network (mixed samples, where a mix makes fewer of more);
    ``cost`` counts 1 for the forward and 2 for the backward pass of a sample; ``epochs`` are passes over the
    raw data.

    Args:
        amount: above 0.
        unit: epochs, steps, samples, seconds or cost.
    """

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        if not 0 < self.amount < math.inf or self.unit not in get_args(Unit):
            raise ConfigError(
                f"a budget of {self.amount} {self.unit} is none: give a number above 0 and one of the units"
                f" {', '.join(get_args(Unit))}"
            )

    @classmethod
    def parse(cls, text: str | Budget) -> Budget:
        """Read ``"20ep"``, ``"4000 steps"``, ``"400k samples"``, ``"10min"``, ``"1.2M cost"``.

        >>> Budget.parse("400k samples"), Budget.parse("10min")
        (Budget(amount=400000.0, unit='samples'), Budget(amount=600.0, unit='seconds'))
        """
        if isinstance(text, Budget):
            return text
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kMG]?)\s*([A-Za-z]+)\s*", str(text))
        if match is None or match[3] not in _UNITS or float(match[1]) <= 0:
            raise ConfigError(
                f"budget {text!r} cannot be read: give a number above 0 and a unit, for example '20ep',"
                " '4000 steps', '400k samples', '10min' or '1.2M cost'"
            )
        unit, scale = _UNITS[match[3]]
        return cls(float(match[1]) * _PREFIXES[match[2]] * scale, unit)

    def progress(self, spent: Spent) -> float:
        """The share that is used up; 1 and above when the budget is spent."""
        return float(getattr(spent, self.unit)) / self.amount

    def __str__(self) -> str:
        return f"{self.amount:.15g} {self.unit}"
