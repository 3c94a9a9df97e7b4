"""How much more would decide a difference that is still open."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from lessonplan.lab.advice.evidence import Evidence
from lessonplan.lab.advice.looks import rungs, share_of_look

POWER = 0.8
_MOST_ROUNDS = 5000


@dataclass(frozen=True)
class Need:
    """What a difference as large as the present one would take.

    Attributes:
        rounds: in all, to be found with probability 0.8; None where no number of rounds would do.
        samples: labelled samples that would do, with many rounds, where rounds alone do not; None where they do,
            or where there is no difference to find.
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
    free = max(int(evidence.samples) - 1, 1)
    later = [at for at in rungs(_MOST_ROUNDS) if at > rounds]
    for place, at in enumerate(later):
        level = alpha * share_of_look(look + place) / open_
        part = of_round / at
        freedom = (part + lasting) ** 2 / (part**2 / (at - 1) + lasting**2 / free)
        reach = stats.t.isf(level / 2, freedom) + stats.t.isf(1 - POWER, freedom)
        if size >= reach * math.sqrt(part + lasting):
            return Need(at, None)
    # What rounds leave over shrinks with the samples alone; the rounds' part is small beside it by then.
    reach = stats.norm.isf(alpha * share_of_look(look) / open_ / 2) + stats.norm.isf(1 - POWER)
    return Need(None, math.ceil(max(free + 2, (free + 1) * lasting * (reach / size) ** 2)))
