"""What a confusion matrix says: how well each class is told from the others, and which are taken for which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
_ONE_SIDED = 1.645


@dataclass(frozen=True)
class ClassScores:
    """How well each of C classes is recognised; None where a score is undefined.

    Attributes:
        precision: share of the samples taken for a class that are of it, in [0, 1]; None where none was.
        recall: share of a class' samples that are taken for it, in [0, 1]; None without samples.
        f1: 2 right / (samples of the class + samples taken for it), in [0, 1], which is the harmonic mean of
            both; None for a class without either.
        support: samples of each class.
    """

    precision: list[float | None]
    recall: list[float | None]
    f1: list[float | None]
    support: list[int]

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have samples, in [0, 1]; NaN without samples."""
        return _mean(self.recall)

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that have samples or were predicted, in [0, 1]; NaN without samples."""
        return _mean(self.f1)


def class_scores(right: Any, true: Any, predicted: Any) -> ClassScores:
    """Precision, recall and F1 from counts; definitions and means are those of scikit-learn.

    Args:
        right: ``(C,)``, samples of each class that are taken for it.
        true: ``(C,)``, samples of each class.
        predicted: ``(C,)``, samples taken for each class.

    >>> scores = class_scores([1, 1, 0], [2, 1, 0], [1, 2, 0])
    >>> scores.precision, scores.recall, scores.balanced_accuracy
    ([1.0, 0.5, None], [0.5, 1.0, None], 0.75)
    """
    hit, of_class, taken = (np.asarray(counts, dtype=np.int64) for counts in (right, true, predicted))
    return ClassScores(
        _quotients(hit, taken), _quotients(hit, of_class), _quotients(2 * hit, of_class + taken), of_class.tolist()
    )


def scores_of(confusion: Any) -> ClassScores:
    """The same from a confusion matrix ``(C, C)``, true class by row, predicted class by column."""
    counts = np.asarray(confusion, dtype=np.int64)
    return class_scores(counts.diagonal(), counts.sum(1), counts.sum(0))


@dataclass(frozen=True)
class Confused:
    """A class that is taken for another: how many of its samples, and their share of it in (0, 1]."""

    true: int
    predicted: int
    count: int
    share: float


def frequent_confusions(confusion: Any, most: int) -> list[Confused]:
    """The pairs that are confused most often; of equally frequent ones first those with the larger share.

    Args:
        confusion: ``(C, C)``, true class by row, predicted class by column.
        most: at most so many.

    >>> frequent_confusions([[8, 2], [1, 3]], 1)
    [Confused(true=0, predicted=1, count=2, share=0.2)]
    """
    counts = np.array(confusion, dtype=np.int64)
    support = counts.sum(1)
    np.fill_diagonal(counts, 0)
    rows, columns = counts.nonzero()
    number = counts[rows, columns]
    share = number / support[rows]
    order = np.lexsort((columns, rows, -share, -number))[:most]
    return [Confused(int(rows[i]), int(columns[i]), int(number[i]), float(share[i])) for i in order]


def classes_of(pairs: Sequence[Confused], most: int) -> list[int]:
    """The classes of the first pairs, in their own order, as many pairs as have at most ``most`` classes.

    >>> classes_of([Confused(7, 2, 9, 0.5), Confused(2, 4, 8, 0.5), Confused(5, 6, 3, 0.1)], 4)
    [2, 4, 7]
    """
    found: set[int] = set()
    for pair in pairs:
        if len(found | {pair.true, pair.predicted}) > most:
            break
        found |= {pair.true, pair.predicted}
    return sorted(found)


@dataclass(frozen=True)
class Agreement:
    """How far answers agree with the labels beyond what answers that know nothing would.

    Attributes:
        kappa: Cohen's kappa, in [-1, 1]: 0 is what chance gives, 1 is always right.
        z: kappa over its standard deviation where answers are independent of labels; 0 where nothing could agree,
            as of answers that are all the same.
        accuracy: share of right answers.
        most_frequent: share of right answers of who always names the most frequent class.
    """

    kappa: float
    z: float
    accuracy: float
    most_frequent: float

    @property
    def at_chance(self) -> bool:
        """Whether it is no more than chance (one-sided, 5%)."""
        return self.z < _ONE_SIDED


def agreement(confusion: Any) -> Agreement | None:
    """Cohen's kappa of answers and labels, and how far it is from 0.

    J. L. Fleiss, J. Cohen, B. S. Everitt: Large sample standard errors of kappa and weighted kappa (Psychological
    Bulletin 72, 1969), for answers that are independent of the labels.

    Args:
        confusion: ``(C, C)``, true class by row, predicted class by column.

    Returns:
        None where there is nothing to agree on: no samples, or all of one class.

    Raises:
        ValueError: it is no square of counts.

    >>> found = agreement([[5, 0], [5, 0]])
    >>> found.kappa, found.at_chance, found.most_frequent
    (0.0, True, 0.5)
    """
    counts = np.asarray(confusion, dtype=np.int64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or (counts < 0).any():
        raise ValueError(f"a confusion matrix of shape {counts.shape}: counts (C, C) are needed")
    samples = int(counts.sum())
    true, predicted = counts.sum(1), counts.sum(0)
    if samples == 0 or true.max() == samples:
        return None
    of_class, taken = true / samples, predicted / samples
    right, by_chance = float(counts.trace()) / samples, float(of_class @ taken)
    kappa = (right - by_chance) / (1 - by_chance)
    spread = by_chance + by_chance**2 - float((of_class * taken) @ (of_class + taken))
    deviation = math.sqrt(max(spread, 0.0) / samples) / (1 - by_chance)
    most_frequent = float(true.max()) / samples
    if int(predicted.max()) == samples or deviation == 0:
        return Agreement(0.0, 0.0, right, most_frequent)
    return Agreement(kappa, kappa / deviation, right, most_frequent)


def _quotients(over: Counts, under: Counts) -> list[float | None]:
    return [a / b if b else None for a, b in zip(over.tolist(), under.tolist(), strict=True)]


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")
