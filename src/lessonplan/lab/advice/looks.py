"""Looking many times at many plans without calling chance a finding: alpha spending, and Holm among the plans.

Why not a sequence that is valid at any time (a mixture martingale): it wants rounds that are independent, and
rounds on splits of the same labels are not. Spending needs a valid test at each look and nothing else: whatever
the looks have to do with each other, the chance of a mistake is at most the sum of what they spend (Boole).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

RUNGS_BEGIN, RUNGS_GROW = 4, 1.5


def rungs(most: int) -> list[int]:
    """Numbers of rounds after which is looked: 4, then half as many more each time, up to ``most``.

    >>> rungs(30)
    [4, 6, 9, 14, 21]
    """
    found, at = [], RUNGS_BEGIN
    while at <= most:
        found.append(at)
        at = int(at * RUNGS_GROW + 0.5)
    return found


def share_of_look(look: int) -> float:
    """The share of the permitted error that a look spends: n / 2^(n+1), which sums to 1 over all n >= 1.

    Less at the first look, which rests on few rounds, than geometric spending; looks need no end that was fixed
    before (G. DeMets and K. K. G. Lan, Interim analysis: the alpha spending function approach, 1994).

    >>> [share_of_look(n) for n in (1, 2, 3, 4)]
    [0.25, 0.25, 0.1875, 0.125]
    """
    return look / 2.0 ** (look + 1)


def step_down(p: Array, open_: npt.NDArray[np.bool_], alpha: float) -> tuple[npt.NDArray[np.bool_], Array]:
    """Which of the open hypotheses are rejected at a look, by Holm's steps.

    A hypothesis that is rejected leaves its share to those that are open, now and at later looks (W. Maurer and
    F. Bretz, Multiple testing in group sequential trials using graphical approaches, 2013): before the first
    mistake at least the true hypotheses are open, so each of them is tested at no more than alpha / their number.

    Args:
        p: ``(..., m)`` two-sided p-values.
        open_: ``(..., m)`` whose hypotheses were not rejected at earlier looks.
        alpha: what this look may spend.

    Returns:
        ``(..., m)`` rejected now; and ``(..., m)`` the level at which each was tested: the interval of that level
        leaves out 0 where it is rejected, and holds 0 where it is open still.

    >>> step_down(np.array([0.04, 0.001, 0.02]), np.array([True, True, True]), 0.05)
    (array([ True,  True,  True]), array([0.05      , 0.01666667, 0.025     ]))
    """
    ordered = np.where(open_, p, np.inf)
    order = np.argsort(ordered, axis=-1, kind="stable")
    left = open_.sum(-1, keepdims=True) - np.arange(p.shape[-1])
    level = alpha / np.maximum(left, 1)
    below = (np.take_along_axis(ordered, order, -1) < level) & (left > 0)
    passed = np.cumprod(below, -1).astype(bool)
    first_open = np.minimum(passed.sum(-1, keepdims=True), np.maximum(open_.sum(-1, keepdims=True) - 1, 0))
    tested = np.where(passed, level, np.take_along_axis(level, first_open, -1))
    back = np.argsort(order, axis=-1, kind="stable")
    return np.take_along_axis(passed, back, -1), np.take_along_axis(tested, back, -1)
