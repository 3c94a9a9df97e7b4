"""How much a tournament may take, in time or in cost, and what of it is gone."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from lessonplan.errors import ConfigError
from lessonplan.train.budget import Budget


@dataclass
class Allowance:
    """Wall-clock time of all parts of a tournament together, or the cost of all its runs.

    Args:
        total: seconds, or cost (forward 1, backward 2 a sample).
        unit: "seconds" or "cost".
        before: seconds that earlier parts took.
    """

    total: float
    unit: str
    before: float = 0.0
    _started: float = field(default_factory=lambda: time.monotonic(), repr=False)

    @classmethod
    def parse(cls, given_time: str | None, budget: str | None) -> Allowance:
        """Read ``--time 30min`` or ``--budget "40M cost"``.

        Raises:
            ConfigError: both or none are given, or in another unit.

        >>> Allowance.parse("1h30min", None).total, Allowance.parse(None, "2M cost").unit
        (5400.0, 'cost')
        """
        if (given_time is None) == (budget is None):
            raise ConfigError("give how long it may take: either time (30min) or budget (40M cost)")
        if given_time is not None:
            pieces = re.findall(r"(?<![\d.])[\d.]+\s*[A-Za-z]+", given_time)  # each number tried once
            whole = "".join(given_time.split()) == "".join("".join(piece.split()) for piece in pieces)
            parts = [Budget.parse(piece) for piece in pieces] if whole else []
            if not parts or any(part.unit != "seconds" for part in parts):
                raise ConfigError(
                    f"time {given_time!r} cannot be read: give for example 90s, 30min, 2h or 1h30min"
                )
            return cls(sum(part.amount for part in parts), "seconds")
        allowed = Budget.parse(str(budget))
        if allowed.unit == "seconds":
            return cls(allowed.amount, "seconds")
        if allowed.unit != "cost":
            raise ConfigError(
                f"budget {budget!r} is no measure of a whole tournament: give cost (40M cost) or time (30min)"
            )
        return cls(allowed.amount, "cost")

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all parts."""
        return self.before + time.monotonic() - self._started
