"""How well the rank of an order among its tree's is foretold, for epochs that nothing was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lessonplan.lab.ordering.explain.batches import Floats
from lessonplan.lab.ordering.explain.features import EXPANSION
from lessonplan.lab.ordering.explain.groups import Group, by_epoch, plain, ranked
from lessonplan.lab.statistics import compare_paired
from lessonplan.seeds import fold_seed

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of ridge, beside features of variance 1
_HALVES = 2  # of a tree's orders: fitted on one, judged on the other
_EPOCHS_TO_FIT = 2
_OF_ANOTHER_SCALE = (EXPANSION, "evaluation")  # losses, not ranks
_BOOSTED = 100  # orders of a tree that boosting is fitted on: it takes minutes on all, and gains nothing by them

Foretold = list["Floats | None"]
"""For each group a number an order, the larger the worse; None where a model has nothing to say."""


@dataclass(frozen=True)
class Foreteller:
    """A way to foretell ranks.

    Attributes:
        name: what it is called.
        words: what it knows.
        transfers: whether it can be used before any order of an epoch is trained.
        foretell: numbers for every group.
    """

    name: str
    words: str
    transfers: bool
    foretell: Callable[[Sequence[Group], Sequence[str], int], Foretold]


def foretell_ranks(groups: Sequence[Group], names: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """Foretell the rank of every order's loss within its tree, and judge that epoch by epoch.

    Args:
        groups: one a tree.
        names: of the features.
        seed: of boosting and of halves.

    Returns:
        A row for each way: ``spearman``, the correlation of foretold and true ranks (0 is knowing nothing), mean
        over the trees of an epoch, then over epochs, as a ``Difference`` to 0 as plain data, corrected (Holm) over
        the ways that transfer; ``r2`` of the ranks where the numbers are ranks; ``chosen``: where the order that
        is foretold to be best stands among its tree's, 0 best, 1 worst, 0.5 by chance. Ways without an epoch are
        left out.
    """
    rows: dict[str, dict[str, Any]] = {}
    spearman: dict[str, dict[int, float]] = {}
    for way in FORETELLERS:
        numbers = way.foretell(groups, names, seed)
        found = by_epoch(groups, [_spearman(n, g) for n, g in zip(numbers, groups, strict=True)])
        if not found:
            continue
        chosen = by_epoch(groups, [_chosen(n, g) for n, g in zip(numbers, groups, strict=True)])
        r2 = by_epoch(groups, [_r2(n, g) for n, g in zip(numbers, groups, strict=True)])
        rows[way.name] = {
            "name": way.name,
            "words": way.words,
            "transfers": way.transfers,
            "by_epoch": {str(epoch): value for epoch, value in found.items()},
            "r2": None if way.name in _OF_ANOTHER_SCALE else float(np.mean(list(r2.values()))),
            "chosen": _stands(chosen),
        }
        spearman[way.name] = found
    for transfers in (True, False):  # ways that may be used, and ways that say how much there is to know
        family = {name: values for name, values in spearman.items() if rows[name]["transfers"] is transfers}
        zero = {epoch: 0.0 for values in family.values() for epoch in values}
        for name, difference in compare_paired(zero, family).items():
            assert difference is not None
            rows[name]["spearman"] = plain(difference)
    return list(rows.values())


def _stands(by: dict[int, float]) -> dict[str, Any]:
    """Mean over epochs of where chosen orders stand, with its intervals, as a difference to chance plus a half."""
    difference = compare_paired(dict.fromkeys(by, 0.5), {"chosen": by})["chosen"]
    assert difference is not None
    bounds = difference.ci_t
    return {
        "mean": 0.5 + difference.mean,
        "ci_t": None if bounds is None else [0.5 + bound for bound in bounds],
        "p": difference.p,
    }


def _spearman(foretold: Floats | None, group: Group) -> float | None:
    if foretold is None:
        return None
    known = np.isfinite(foretold)
    given, true = ranked(foretold[known]), ranked(group.loss[known])
    if given.std() == 0 or true.std() == 0:
        return 0.0
    return float(np.corrcoef(given, true)[0, 1])


def _r2(foretold: Floats | None, group: Group) -> float | None:
    if foretold is None:
        return None
    known = np.isfinite(foretold)
    true = group.ranks[known]
    return float(1 - ((foretold[known] - true) ** 2).sum() / (true**2).sum())


def _chosen(foretold: Floats | None, group: Group) -> float | None:
    """Rank, 0 to 1, of the order that is foretold to be best; of several equally good ones their mean."""
    if foretold is None:
        return None
    known = np.flatnonzero(np.isfinite(foretold))
    best = known[foretold[known] == foretold[known].min()]
    return float(group.ranks[best].mean() + 0.5)


def _matrix(group: Group, names: Sequence[str]) -> Floats:
    """``(P, F)``; a feature that is the same for all of a tree's orders is 0."""
    zero = np.zeros(len(group.loss))
    return np.stack([group.features.get(name, zero) for name in names], axis=1)


def _others(groups: Sequence[Group], epoch: int) -> list[int]:
    return [place for place, group in enumerate(groups) if group.epoch != epoch]


def _epochs(groups: Sequence[Group]) -> list[int]:
    return sorted({group.epoch for group in groups})


def _ridge(groups: Sequence[Group], names: Sequence[str], seed: int) -> Foretold:
    """Ridge on the features, its strength chosen by leaving out the other epochs one by one."""
    epochs = _epochs(groups)
    if len(epochs) <= _EPOCHS_TO_FIT:
        return [None] * len(groups)
    # Means over an epoch's trees of X'X / P and X'y / P are all that fitting and judging need.
    parts: dict[int, list[tuple[Floats, Floats]]] = {}
    for group in groups:
        x = _matrix(group, names)
        parts.setdefault(group.epoch, []).append((x.T @ x / len(x), x.T @ group.ranks / len(x)))
    grams = {epoch: np.mean([xx for xx, _ in found], axis=0) for epoch, found in parts.items()}
    sides = {epoch: np.mean([xy for _, xy in found], axis=0) for epoch, found in parts.items()}

    def fitted(on: Sequence[int], strength: float) -> Floats:
        gram = np.mean([grams[epoch] for epoch in on], axis=0)
        side = np.mean([sides[epoch] for epoch in on], axis=0)
        return np.asarray(np.linalg.solve(gram + strength * np.eye(len(gram)), side))

    def error(epoch: int, weights: Floats) -> float:
        return float(weights @ grams[epoch] @ weights - 2 * weights @ sides[epoch])

    foretold: Foretold = [None] * len(groups)
    for held in epochs:
        kept = [epoch for epoch in epochs if epoch != held]
        strength = min(
            _STRENGTHS,
            key=lambda s: sum(error(out, fitted([e for e in kept if e != out], s)) for out in kept),
        )
        weights = fitted(kept, strength)
        for place, group in enumerate(groups):
            if group.epoch == held:
                foretold[place] = _matrix(group, names) @ weights
    return foretold


def _boosting(groups: Sequence[Group], names: Sequence[str], seed: int) -> Foretold:
    """Boosted trees on the features."""
    epochs = _epochs(groups)
    if len(epochs) < _EPOCHS_TO_FIT:
        return [None] * len(groups)
    # imported here: scikit-learn takes longer to import than the rest of this package
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    matrices = [_matrix(group, names) for group in groups]
    drawn = [
        np.random.default_rng(fold_seed(seed, group.epoch, group.start)).permutation(len(group.loss))[:_BOOSTED]
        for group in groups
    ]
    foretold: Foretold = [None] * len(groups)
    for held in epochs:
        used = _others(groups, held)
        trees = {epoch: sum(groups[place].epoch == epoch for place in used) for epoch in epochs}
        weights = [np.full(len(drawn[p]), 1 / (len(drawn[p]) * trees[groups[p].epoch])) for p in used]
        model = HistGradientBoostingRegressor(
            max_depth=4, max_iter=60, early_stopping=False, random_state=fold_seed(seed, "boosting", held) % 2**32
        )
        weight = np.concatenate(weights)
        with threadpool_limits(1):  # its threads wait for each other by turning round: ruinous beside other work
            model.fit(
                np.concatenate([matrices[p][drawn[p]] for p in used]),
                np.concatenate([groups[p].ranks[drawn[p]] for p in used]),
                sample_weight=weight / weight.mean(),
            )
        for place, group in enumerate(groups):
            if group.epoch == held:
                foretold[place] = np.asarray(model.predict(matrices[place]), dtype=np.float64)
    return foretold


def _one_feature(groups: Sequence[Group], names: Sequence[str], seed: int) -> Foretold:
    """The feature that goes with the loss best in the other epochs, with the sign that it has there."""
    if len(_epochs(groups)) < _EPOCHS_TO_FIT:
        return [None] * len(groups)
    correlations = {
        name: by_epoch(
            groups,
            [
                float(np.corrcoef(ranked(g.features[name]), g.ranks)[0, 1]) if name in g.features else None
                for g in groups
            ],
        )
        for name in names
    }
    foretold: Foretold = []
    for group in groups:
        means = {
            name: float(np.mean([value for epoch, value in by.items() if epoch != group.epoch] or [0.0]))
            for name, by in correlations.items()
        }
        best = max(means, key=lambda name: abs(means[name]))
        values = group.features.get(best)
        foretold.append(None if values is None else means[best] * values / values.std() * np.sqrt(1 / 12))
    return foretold


def _expansion(groups: Sequence[Group], names: Sequence[str], seed: int) -> Foretold:
    return [group.features.get(EXPANSION) for group in groups]


def _oracle(groups: Sequence[Group], names: Sequence[str], seed: int) -> Foretold:
    return [group.oracle for group in groups]


def _other_starts(groups: Sequence[Group], names: Sequence[str], seed: int) -> Foretold:
    """Mean rank of the same order from the epoch's other starts; orders that no other has are left out."""
    tables = [dict(zip(map(tuple, group.orders.tolist()), group.ranks.tolist(), strict=True)) for group in groups]
    foretold: Foretold = []
    for place, group in enumerate(groups):
        others = [tables[p] for p, other in enumerate(groups) if other.epoch == group.epoch and p != place]
        numbers = np.full(len(group.loss), np.nan)
        for row, order in enumerate(tables[place]):
            seen = [table[order] for table in others if order in table]
            if seen:
                numbers[row] = np.mean(seen)
        foretold.append(numbers if np.isfinite(numbers).sum() > 2 else None)
    return foretold


def _places(groups: Sequence[Group], names: Sequence[str], seed: int) -> Foretold:
    """Which batch stands where, fitted by least squares on half of the tree's orders and judged on the others."""
    foretold: Foretold = []
    for group in groups:
        n = group.orders.shape[1]
        random = np.random.default_rng(fold_seed(seed, group.epoch, group.start))
        half = random.permutation(len(group.loss)) % _HALVES
        free = (n - 1) ** 2  # coefficients that one-hot places leave free
        if (half == 0).sum() <= free:
            foretold.append(None)
            continue
        hot = np.eye(n)[group.orders].reshape(len(group.orders), -1)
        numbers = np.full(len(group.loss), np.nan)
        weights, *_ = np.linalg.lstsq(hot[half == 0], group.ranks[half == 0], rcond=None)
        numbers[half == 1] = hot[half == 1] @ weights
        foretold.append(numbers)
    return foretold


FORETELLERS = (
    Foreteller("ridge", "ridge regression on all features, fitted on the other epochs", True, _ridge),
    Foreteller("boosting", "boosted trees on all features, fitted on the other epochs", True, _boosting),
    Foreteller("one feature", "the feature that goes with the loss best in the other epochs", True, _one_feature),
    Foreteller(
        EXPANSION, "training loss, expanded to second order at the start; nothing is fitted", True, _expansion
    ),
    Foreteller("evaluation", "the same of the evaluation loss itself, which no order may know", False, _oracle),
    Foreteller("other starts", "mean rank of the same order from the epoch's other starts", False, _other_starts),
    Foreteller("places", "which batch stands where, fitted on half of the tree's own orders", False, _places),
)
