"""Learning-rate schedules that end with the budget."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
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
    - ``step:gamma=0.1,parts=3``, multiplied by gamma at the end of each of ``parts`` equal parts, or, instead of
      ``parts``, at milestones of one's own: ``step:at=50%/75%`` are shares of the budget, ``step:at=150ep/250ep``
      epochs over the raw data, of which those behind the budget's end never come (ASSIST's code: 150, 250)
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
    >>> Schedule("step:gamma=0.5,at=150ep/250ep").factor(0.75, epochs=225)
    0.5
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "started",
        "started_epochs",
        "_level",
        "_mean",
        "_best",
        "_waited",
        "_images",
        "_settling",
    )

    def __init__(self, text: str) -> None:
        self.kind, _, options = text.partition(":")
        if self.kind not in _DEFAULTS:
            raise unknown("schedule", self.kind, _DEFAULTS)
        self.options = {"warmup": 0.0, **_DEFAULTS[self.kind]}
        allowed: dict[str, Any] = dict.fromkeys(self.options, float)
        given = read_values(
            self.kind,
            read_pairs(self.kind, options),
            {**allowed, "at": Sequence[str]} if self.kind == "step" else allowed,
        )
        self._milestones = _milestones(text, given.pop("at")) if "at" in given else None
        if self._milestones is not None and "parts" in given:
            raise ConfigError(f"schedule {text} names milestones and equal parts: give at or parts")
        self.options |= given
        self._check()
        self.started, self.started_epochs = 0.0, 0.0
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

    def factor(self, progress: float, epochs: float = 0.0) -> float:
        """The factor at this share of the budget; updates heard by ``observe`` count for ``stagnation``.

        Args:
            progress: share of the budget that is used, in [0, 1].
            epochs: passes over the raw data so far, for milestones in epochs.
        """
        share = (progress - self.started) / (1.0 - self.started) if self.started < 1 else 1.0
        share = min(max(share, 0.0), 1.0)
        warmup = self.options["warmup"]
        if share < warmup:
            return share / warmup
        if self._milestones is not None:
            unit, places = self._milestones
            now = epochs - self.started_epochs if unit == "ep" else share
            return float(self.options["gamma"] ** sum(now >= place - 1e-9 for place in places))
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

    def restart(self, progress: float, epochs: float = 0.0) -> None:
        """Begin anew, with what is left of the budget as the whole, and with the epochs to come."""
        self.started, self.started_epochs, self._level = progress, epochs, 1.0
        self._forget()

    def _forget(self) -> None:
        """Judge the losses to come by themselves."""
        self._mean, self._best, self._waited, self._settling = math.nan, math.inf, 0, 0

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave; before format 3 it did not tell K, nor later at first epochs."""
        super().load_state_dict({"images": None, "settling": 0, "started_epochs": 0.0, **state})


def _milestones(text: str, at: Sequence[str]) -> tuple[str, list[float]]:
    """The unit of milestones, ``"ep"`` or ``"share"`` of the budget, and where they are.

    Raises:
        ConfigError: they are neither, of both kinds, or do not rise.
    """
    found = [re.fullmatch(r"(\d+\.?\d*|\.\d+)(ep|%|)", item) for item in at]
    units = {"ep" if match[2] == "ep" else "share" for match in found if match}
    places = [float(match[1]) / (100 if match[2] == "%" else 1) for match in found if match]
    inside = units == {"ep"} or all(place < 1 for place in places)
    rises = all(one < other for one, other in zip([0.0, *places], places, strict=False))
    if None in found or len(units) != 1 or not (inside and rises):
        raise ConfigError(
            f"schedule {text}: at={'/'.join(at)} cannot be used: give rising shares of the budget between 0 and 1"
            " (at=50%/75%) or rising epochs (at=150ep/250ep)"
        )
    return units.pop(), places
