"""How often something happens: every so many seconds or updates."""

from __future__ import annotations

import time

from lessonplan.errors import ConfigError
from lessonplan.train.budget import Budget


class Cadence:
    """Tells when the next time has come.

    Args:
        seconds: between two times, or None.
        steps: updates between two times, or None.
    """

    def __init__(self, seconds: float | None = None, steps: int | None = None) -> None:
        self._seconds, self._steps = seconds, steps
        self.done(0)

    @classmethod
    def parse(cls, text: str) -> Cadence:
        """Read ``"60s"``, ``"10min"`` or ``"500 steps"``."""
        try:
            amount = Budget.parse(text)
        except ConfigError:
            amount = Budget(1, "epochs")
        if amount.unit == "seconds":
            return cls(seconds=amount.amount)
        if amount.unit == "steps":
            return cls(steps=max(1, round(amount.amount)))
        raise ConfigError(f"{text!r} is no interval: give for example '60s', '10min' or '500 steps'")

    def due(self, step: int) -> bool:
        """Whether the interval has passed since ``done``."""
        if self._steps is not None:
            return step - self._last_step >= self._steps
        return self._seconds is not None and time.monotonic() - self._last_time >= self._seconds

    def done(self, step: int) -> None:
        """Start the interval anew."""
        self._last_time, self._last_step = time.monotonic(), step
