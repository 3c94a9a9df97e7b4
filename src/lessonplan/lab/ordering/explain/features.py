"""Features of orders: what can be said of one before it is trained, from what is known of its batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lessonplan.lab.ordering.explain.batches import BatchFacts, Floats, Slope

Orders = NDArray[np.int64]

EXPANSION = "expansion"
"""The feature that foretells the loss itself, without anything fitted."""

_OF_A_BATCH = {
    "loss": "mean loss",
    "norm": "norm of the gradient",
    "agreement": "cosine of the gradient with the mean gradient",
    "unevenness": "share of it that would have to be of other classes to be as all samples are",
}
_OF_NEIGHBOURS = {
    "class change": "share that changes its class between neighbours",
    "pixel likeness": "cosine of neighbours' mean samples",
    "feature likeness": "cosine of neighbours' mean features",
    "gradient cosine": "cosine of neighbours' gradients",
}


@dataclass(frozen=True)
class Reach:
    """How far a gradient takes sgd with momentum, in plain updates, by how many updates follow it.

    >>> [round(Reach(0.5).of(later), 3) for later in range(3)], Reach(0.5, nesterov=True).of(0)
    ([1.0, 1.5, 1.75], 1.5)
    """

    momentum: float
    nesterov: bool = False

    def of(self, later: int) -> float:
        """The sum of ``momentum ** k``, k = 0 .. ``later``; one term more in Nesterov's form."""
        return float(sum(self.momentum**k for k in range(later + 1 + self.nesterov)))


def feature_words(names: tuple[str, ...], class_name: str | None) -> dict[str, str]:
    """What each feature is, by name.

    Args:
        names: as `order_features` gives them.
        class_name: the class of two whose share is meant.
    """
    whole = {
        **_OF_A_BATCH,
        "class": f"share of class {class_name}",
    }
    words = {}
    for scalar, what in whole.items():
        words[f"{scalar} first"] = f"first batch: {what}"
        words[f"{scalar} last"] = f"last batch: {what}"
        words[f"{scalar} rising"] = f"Kendall's tau of place and {what}"
    words["hardest place"] = "where the batch of the highest loss stands, 0 first, 1 last"
    for pair, what in _OF_NEIGHBOURS.items():
        words[pair] = f"{what}, mean"
    words["first gradient cosine"] = "cosine of the first two gradients"
    words["last gradient cosine"] = "cosine of the last two gradients"
    words["descent"] = "how far momentum carries the network along the mean gradient"
    words["interference"] = "what each step does to the later batches' gradients, along the mean gradient"
    words[EXPANSION] = "training loss after the epoch, expanded to second order around the start"
    return {name: words[name] for name in names}


def order_features(orders: Orders, facts: BatchFacts, reach: Reach | None, lr: float) -> dict[str, Floats]:
    """Features of many orders of the same batches.

    Args:
        orders: ``(P, n)``, each row a permutation of 0..n-1.
        facts: of the n batches.
        reach: of sgd; None of another optimizer, whose steps are no sums of gradients.
        lr: learning rate.

    Returns:
        ``(P,)`` for each feature, by name.
    """
    n = orders.shape[1]
    scalars = {
        "loss": facts.loss,
        "norm": facts.norms,
        "agreement": facts.agreement,
        "unevenness": facts.unevenness,
    }
    if facts.classes.shape[1] == 2:  # the other one's share says the same
        scalars["class"] = facts.classes[:, 1]
    found: dict[str, Floats] = {}
    for name, values in scalars.items():
        placed = values[orders]
        found[f"{name} first"], found[f"{name} last"] = placed[:, 0], placed[:, -1]
        found[f"{name} rising"] = over_pairs(orders, np.sign(values[None] - values[:, None])) / (n * (n - 1) / 2)
    found["hardest place"] = (orders == facts.loss.argmax()).argmax(1) / (n - 1)
    likeness = {
        "class change": facts.class_changes,
        "pixel likeness": facts.pixels,
        "feature likeness": facts.features,
        "gradient cosine": facts.cosines,
    }
    for name, matrix in likeness.items():
        if matrix is not None:
            found[name] = matrix[orders[:, :-1], orders[:, 1:]].mean(1)
    found["first gradient cosine"] = facts.cosines[orders[:, 0], orders[:, 1]]
    found["last gradient cosine"] = facts.cosines[orders[:, -2], orders[:, -1]]
    if reach is not None:
        found.update(expanded_loss(orders, facts.training, reach, lr))
    return found


def over_pairs(
    orders: Orders, matrix: Floats, weight: Callable[[int, int], float] = lambda earlier, later: 1.0
) -> Floats:
    """For every order the sum of ``weight(s, t) * matrix[order[s], order[t]]`` over all pairs of places s < t."""
    total = np.zeros(len(orders))
    for later in range(1, orders.shape[1]):
        for earlier in range(later):
            total += weight(earlier, later) * matrix[orders[:, earlier], orders[:, later]]
    return total


def expanded_loss(orders: Orders, slope: Slope, reach: Reach, lr: float) -> dict[str, Floats]:
    """A loss after the epoch, minus that before it, to second order in the learning rate, and two of its parts.

    With g the gradients, H the Hessians at the start, W(t) the reach of the update at place t until the end, and
    w(s, t) that of the update at s when the gradient at t is taken, the network moves by
    ``-lr sum_t W(t) (g_t - lr H_t sum_{s<t} w(s, t) g_s)``. Weight decay is left out.

    Args:
        orders: ``(P, n)``.
        slope: of the loss, with the batches' gradients.
        reach: of sgd.
        lr: learning rate.

    Returns:
        ``(P,)`` each: ``descent`` (first order, the larger the more the loss falls), ``interference`` (the steps'
        effect on later gradients; it adds to the loss) and ``expansion`` (all of it; without the loss's own
        curvature where that is not known).
    """
    n = orders.shape[1]
    until_end = np.array([reach.of(n - 1 - place) for place in range(n)])
    descent = slope.along[orders] @ until_end
    # slope.bent has the batch whose Hessian it is first: the later one
    interference = over_pairs(
        orders, slope.bent.T, lambda earlier, later: float(until_end[later]) * reach.of(later - 1 - earlier)
    )
    loss = -lr * descent + lr**2 * interference
    if slope.curved is not None:
        reached = until_end[orders.argsort(1)]  # of each batch, wherever it stands
        loss += lr**2 * ((reached @ slope.curved) * reached).sum(1) / 2
    return {"descent": descent, "interference": interference, EXPANSION: loss}
