"""What paired rounds say of a difference: its mean, and how far it may be off for other splits and samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """A plan against another one over rounds that both have done; arrays of any shape, one difference each.

    In a round both train on the same labelled samples and are judged on the same others; a sample may be judged in
    several rounds. So a mean over rounds and samples is off for two reasons, which are crossed: which rounds were
    made (splits, seeds, and all chance that is drawn anew in each), and which samples there are to judge. Their
    variances are added, as for two crossed random effects (A. B. Owen, The pigeonhole bootstrap, 2007, section 3);
    the degrees of freedom are Satterthwaite's.

    Attributes:
        mean: of the rounds' differences, in shares of samples, [-1, 1].
        rounds: how many, 2 or more.
        samples: how many different ones were judged.
        of_rounds: variance of the mean for the choice of rounds.
        of_samples: variance of the mean for the choice of samples, which more rounds do not lessen.
    """

    mean: Array
    rounds: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]
    of_rounds: Array
    of_samples: Array

    @property
    def error(self) -> Array:
        """Standard error of the mean."""
        return np.sqrt(self.of_rounds + self.of_samples)

    @property
    def freedom(self) -> Array:
        """Degrees of freedom, at least those of the rounds alone."""
        total = self.of_rounds + self.of_samples
        parts = self.of_rounds**2 / (self.rounds - 1) + self.of_samples**2 / np.maximum(self.samples - 1, 1)
        return total**2 / parts

    @property
    def p(self) -> Array:
        """Two-sided p-value of no difference, looked at once."""
        return np.asarray(2 * stats.t.sf(np.abs(self.mean) / self.error, self.freedom))

    def interval(self, alpha: float | Array) -> tuple[Array, Array]:
        """Bounds that leave out the truth with probability ``alpha``, in (0, 1), looked at once."""
        reach = stats.t.isf(np.asarray(alpha) / 2, self.freedom) * self.error
        return self.mean - reach, self.mean + reach


def weigh(differences: Array) -> Evidence:
    """The evidence in differences of right answers.

    Args:
        differences: ``(..., R, N)``: for each of R >= 2 rounds and N samples, whether one plan was right minus
            whether the other was (-1, 0 or 1); NaN where a sample was not judged. Every round judges some.

    Returns:
        evidence of shape ``(...)``. The variance for the choice of samples is never taken for less than it were if
        one sample had said otherwise: a handful of answers that agree are no certainty.

    >>> found = weigh(np.array([[1.0, 0.0, np.nan], [np.nan, 0.0, 1.0]]))
    >>> float(found.mean), int(found.rounds), int(found.samples), float(found.of_rounds)
    (0.5, 2, 3, 0.0)
    """
    judged = ~np.isnan(differences)
    filled = np.where(judged, differences, 0.0)
    rounds = differences.shape[-2]
    of_round = filled.sum(-1) / judged.sum(-1)
    visits = judged.sum(-2)
    seen = visits > 0
    samples = seen.sum(-1)
    often = np.maximum(visits, 1)
    of_sample = filled.sum(-2) / often
    centre = of_sample.sum(-1) / samples
    spread = np.where(seen, (of_sample - centre[..., None]) ** 2, 0.0).sum(-1) / np.maximum(samples - 1, 1)
    # Within a sample its rounds differ by chance; so much of the spread is the rounds' and counted there.
    within = np.where(judged, (differences - of_sample[..., None, :]) ** 2, 0.0).sum((-2, -1))
    free = np.maximum((visits - 1) * seen, 0).sum(-1)
    chance = within / np.maximum(free, 1) * np.where(seen, 1.0 / often, 0.0).sum(-1) / samples
    own = np.maximum(spread - chance, 1.0 / samples)
    return Evidence(
        of_round.mean(-1),
        np.full(of_round.shape[:-1], rounds),
        samples,
        of_round.var(-1, ddof=1) / rounds,
        own / samples,
    )
