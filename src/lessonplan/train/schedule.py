"""Learning-rate schedules that end with the budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from lessonplan.errors import ConfigError, unknown
from lessonplan.parts.state import Stateful
from lessonplan.text_options import read_pairs, read_values

_DEFAULTS: dict[str, dict[str, float]] = {
    "constant": {},
    "cosine": {"end": 0.0},
    "step": {"gamma": 0.1, "parts": 3.0},
    "exponential": {"end": 0.01},
    "stagnation": {"patience": 300.0, "factor": 0.5, "smoothing": 0.02},
}


class Schedule(Stateful):
    """The factor on the learning rate, as a function of the share of the budget that is used.

    Text forms, with their defaults:

    - ``constant``
    - ``cosine:end=0``, half a cosine from 1 to ``end``
    - ``step:gamma=0.1,parts=3``, multiplied by gamma at the end of each of ``parts`` equal parts
    - ``exponential:end=0.01``, a constant ratio from step to step that ends at ``end``
    - ``stagnation:patience=300,factor=0.5,smoothing=0.02``, multiplied by ``factor`` whenever the running mean
      of the training loss (weight ``smoothing`` for the newest) has not fallen for ``patience`` updates
      (thesis section 3.7); the one schedule that does not know where the budget ends. Losses of sums of
      another number of images are of another size, so the mean and the count begin anew with each K, behind a
      plain mean of the first ``1 / smoothing`` losses; the factor that was reached stays

    All take ``warmup=0``, the share of the budget (``warmup=5%``) over which the factor rises linearly from 0.

    >>> cosine = Schedule("cosine")
    >>> cosine.factor(0.0), cosine.factor(0.5), cosine.factor(1.0)
    (1.0, 0.5, 0.0)
    >>> Schedule("cosine:warmup=5%").factor(0.025)
    0.5
    """

    STATE: ClassVar[tuple[str, ...]] = ("started", "_level", "_mean", "_best", "_waited", "_images", "_settling")

    def __init__(self, text: str) -> None:
        self.kind, _, options = text.partition(":")
        if self.kind not in _DEFAULTS:
            raise unknown("schedule", self.kind, _DEFAULTS)
        self.options = {"warmup": 0.0, **_DEFAULTS[self.kind]}
        self.options |= read_values(self.kind, read_pairs(self.kind, options), dict.fromkeys(self.options, float))
        self._check()
        self.started = 0.0
        self._level = 1.0
        self._mean = math.nan
        self._best = math.inf
        self._waited = 0
        self._images: int | None = None  # in a sum, of the losses that were heard
        self._settling = 0  # losses since K changed, while a mean of them says little

    def _check(self) -> None:
        limits: dict[str, Callable[[float], bool]] = {
            "warmup": lambda v: 0 <= v < 1,
            "end": lambda v: 0 <= v <= 1 if self.kind == "cosine" else 0 < v <= 1,
            "gamma": lambda v: 0 < v <= 1,
            "factor": lambda v: 0 < v < 1,
            "smoothing": lambda v: 0 < v <= 1,
            "parts": lambda v: v >= 1,
            "patience": lambda v: v >= 1,
        }
        for key, value in self.options.items():
            if not limits[key](value):
                raise ConfigError(f"schedule option {key}={value:g} of {self.kind} is out of range")

    def factor(self, progress: float) -> float:
        """The factor at this share of the budget; updates heard by ``observe`` count for ``stagnation``."""
        share = (progress - self.started) / (1.0 - self.started) if self.started < 1 else 1.0
        share = min(max(share, 0.0), 1.0)
        warmup = self.options["warmup"]
        if share < warmup:
            return share / warmup
        share = (share - warmup) / (1.0 - warmup)
        if self.kind == "cosine":
            end = self.options["end"]
            return end + (1.0 - end) * (1.0 + math.cos(math.pi * share)) / 2.0
        if self.kind == "step":
            parts = self.options["parts"]
            return float(self.options["gamma"] ** min(int(share * parts), math.ceil(parts) - 1))
        if self.kind == "exponential":
            return float(self.options["end"] ** share)
        return self._level

    def observe(self, loss: float, images: int = 1) -> None:
        """Hear the training loss of an update.

        Args:
            loss: mean over the batch.
            images: in each mixed sample, the mix' present K.
        """
        if self.kind != "stagnation":
            return
        if self._images not in (None, images) and not math.isnan(self._mean):
            self._forget()
            self._settling = 1
        self._images = images
        weight = self.options["smoothing"]
        if self._settling:
            weight = max(weight, 1 / self._settling)
            # One lucky batch would be the best for long.
            self._settling = self._settling + 1 if weight > self.options["smoothing"] else 0
        self._mean = loss if math.isnan(self._mean) else (1 - weight) * self._mean + weight * loss
        if self._settling:
            return
        if self._mean < self._best:
            self._best, self._waited = self._mean, 0
            return
        self._waited += 1
        if self._waited >= self.options["patience"]:
            self._level *= self.options["factor"]
            self._waited = 0

    @property
    def listens(self) -> bool:
        """Whether ``observe`` changes anything."""
        return self.kind == "stagnation"

    def restart(self, progress: float) -> None:
        """Begin anew, with what is left of the budget as the whole."""
        self.started, self._level = progress, 1.0
        self._forget()

    def _forget(self) -> None:
        """Judge the losses to come by themselves."""
        self._mean, self._best, self._waited, self._settling = math.nan, math.inf, 0, 0

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave; before format 3 it did not tell K."""
        super().load_state_dict({"images": None, "settling": 0, **state})
