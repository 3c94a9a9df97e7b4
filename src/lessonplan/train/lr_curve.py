"""What a curve of the loss over the learning rate says: smoothed, where it falls fastest, where it is lowest."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WIDTH_DECADES = 0.2  # of the smoothing; about as narrow as batches of a hundred samples allow
_FURTHEST = 4.0  # standard deviations at which the bell is cut off
_BEGUN = 0.25  # share of its fall that the loss has made where it is sure to be falling
_ROUNDING = 1e-6  # of losses in float32, relative
_SURE = 5.0  # standard errors that a fall must exceed: pure noise passes in one of some thousand curves


def smoothing_width(lowest: float, highest: float, steps: int) -> float:
    """Standard deviation in steps of the bell that smooths: a fifth of a decade, a step at least.

    >>> round(smoothing_width(1e-6, 10, 100), 2), smoothing_width(1e-6, 10, 10)
    (2.83, 1.0)
    """
    return max(1.0, _WIDTH_DECADES * (steps - 1) / math.log10(highest / lowest))


def smooth(loss: Floats, width: float) -> Floats:
    """Weighted means with a Gaussian bell, cut off and weighed anew at both ends.

    A running mean would lag behind the loss and so name learning rates that are too high; a bell looks both ways.

    Args:
        loss: ``(N,)``.
        width: standard deviation in steps, above 0.

    >>> smooth(np.array([1.0, 1.0, 1.0]), 2.0).round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    weights = _weights(len(loss), width)
    return np.asarray(weights @ loss / weights.sum(1))


def newest(loss: list[float], width: float) -> float:
    """The last value of ``smooth``, which is all that is known while losses still come in."""
    tail = np.asarray(loss[-(1 + math.ceil(_FURTHEST * width)) :])
    return float(smooth(tail, width)[-1])


def _weights(n: int, width: float) -> Floats:
    distance = (np.arange(n)[:, None] - np.arange(n)[None, :]) / width
    return np.where(np.abs(distance) <= _FURTHEST, np.exp(-0.5 * distance**2), 0.0)


@dataclass(frozen=True)
class Reading:
    """What a curve says.

    Attributes:
        smoothed: ``(N,)``.
        suggested: learning rate at which the smoothed loss falls fastest, None where it does not fall.
        lowest: learning rate of the lowest smoothed loss, None likewise.
        reason: why there is no number, in a sentence; empty where there is one.
        notes: what to keep in mind, sentences.
    """

    smoothed: Floats
    suggested: float | None = None
    lowest: float | None = None
    reason: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def tenth(self) -> float | None:
        """A tenth of the learning rate of the lowest smoothed loss."""
        return self.lowest / 10 if self.lowest is not None else None


def read_curve(lr: Floats, loss: Floats, width: float) -> Reading:
    """Find where the loss falls fastest, by the logarithm of the learning rate, on its last way to its minimum.

    That way begins where a quarter of the fall is made for the last time: before it there is noise, whose slopes
    may be steeper than those of a gentle fall, or a peak, whose other side is no progress. A loss falls where its
    smoothed minimum lies below its smoothed beginning by five standard errors of their difference; the noise of
    single losses is told by the median of their successive differences.

    Args:
        lr: ``(N,)``, rising.
        loss: ``(N,)``, finite.
        width: see ``smooth``.
    """
    smoothed = smooth(loss, width)
    if len(loss) < 3:
        return Reading(smoothed, reason=f"only {len(loss)} losses were finite: give a smaller --from")
    best = int(smoothed.argmin())
    fall = float(smoothed[0] - smoothed[best])
    if fall <= max(_SURE * _standard_error(loss, width, best), _ROUNDING * abs(float(smoothed[0]))):
        return Reading(
            smoothed,
            reason="the loss never falls by more than its noise: give a wider range (--from, --to), more --steps,"
            " or a larger batch size; or nothing can be learned from these data",
        )
    slope = np.gradient(smoothed, np.log10(lr))
    start = 1 + int(np.flatnonzero(smoothed[:best] > smoothed[0] - _BEGUN * fall)[-1])
    steepest = start + int(slope[start : best + 1].argmin())
    notes = []
    if start <= 2 * width:
        notes.append("the loss falls from the first steps on: give a smaller --from")
    if best == len(lr) - 1:
        notes.append("the loss was still falling where the curve ends: the best learning rate may lie above it")
    return Reading(smoothed, float(lr[steepest]), float(lr[best]), notes=tuple(notes))


def _standard_error(loss: Floats, width: float, best: int) -> float:
    """Of the difference between the smoothed loss at its beginning and at ``best``."""
    # Behind the minimum training breaks down; too few differences before it would tell little.
    differences = np.abs(np.diff(loss[: max(best, len(loss) // 2) + 1]))
    noise = float(np.median(differences)) / (0.6745 * math.sqrt(2))  # of a normal distribution
    weights = _weights(len(loss), width)
    weights /= weights.sum(1, keepdims=True)
    return noise * math.sqrt(float(((weights[0] - weights[best]) ** 2).sum()))
