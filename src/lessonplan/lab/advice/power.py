"""How much more would decide a difference that is still open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from lessonplan.lab.advice.evidence import Evidence
from lessonplan.lab.advice.looks import rungs, share_of_look

POWER = 0.8
_MOST_ROUNDS = 5000
_MOST_TIMES, _EXACT = 1e4, 1.01


@dataclass(frozen=True)
class Need:
    """What a difference as large as the present one would take.

    Attributes:
        rounds: in all, to be found with probability 0.8; None where no number of rounds would do.
        samples: labelled samples that would do, with many rounds, where rounds alone do not; None where they do,
            where there is no difference to find, or where ten thousand times as many would not do.
    """

    rounds: int | None
    samples: int | None


def needed(evidence: Evidence, look: int, open_: int, alpha: float) -> Need:
    """Rounds at which the present difference, if it is the true one, is found with probability 0.8.

    Args:
        evidence: of one difference.
        look: number of the next look.
        open_: how many hypotheses are open.
        alpha: permitted error of all looks and plans together.
    """
    size, rounds = abs(float(evidence.mean)), int(evidence.rounds)
    if size == 0:
        return Need(None, None)
    of_round, lasting = float(evidence.of_rounds) * rounds, float(evidence.of_samples)
    later = [at for at in rungs(_MOST_ROUNDS) if at > rounds]

    def found_after(more: float) -> int | None:
        """Rounds that would do if ``more`` times as many samples judged, or None where none would."""
        of_samples, free = lasting / more, max(more * int(evidence.samples) - 1, 1.0)
        for place, at in enumerate(later):
            level = alpha * share_of_look(look + place) / open_
            part = of_round / at
            freedom = (part + of_samples) ** 2 / (part**2 / (at - 1) + of_samples**2 / free)
            reach = stats.t.isf(level / 2, freedom) + stats.t.isf(1 - POWER, freedom)
            if size >= reach * math.sqrt(part + of_samples):
                return at
        return None

    found = found_after(1.0)
    if found is not None:
        return Need(found, None)
    few, many = 1.0, 2.0
    while found_after(many) is None:
        few, many = many, 2 * many
        if many > _MOST_TIMES:
            return Need(None, None)
    while many / few > _EXACT:
        middle = math.sqrt(few * many)
        few, many = (middle, many) if found_after(middle) is None else (few, middle)
    return Need(None, math.ceil(many * int(evidence.samples)))
