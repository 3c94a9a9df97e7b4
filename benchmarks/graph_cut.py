"""The published way to find Puzzle Mix's masks and moves, in plain form: one image at a time.

Alpha-beta swap (Boykov, Veksler and Zabih 2001, section 4) with an exact minimum cut for every swap, and the
transport heuristic on a dense plan. Slow and obvious: what the library's batched solver is compared with.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from torch import Tensor

Floats = NDArray[np.float64]
_UNIT = 1e-6  # of the largest cost; the maximum flow counts in whole numbers


def grid_edges(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both ends of the horizontal and then the vertical edges of a grid, counted row by row."""
    node = np.arange(height * width).reshape(height, width)
    first = np.concatenate([node[:, :-1].ravel(), node[:-1].ravel()])
    second = np.concatenate([node[:, 1:].ravel(), node[1:].ravel()])
    return first, second


def minimum_cut(
    cost0: Floats, cost1: Floats, ends: tuple[NDArray[np.int64], NDArray[np.int64]], weight: Floats
) -> NDArray[np.bool_]:
    """The binary labels that minimise ``sum cost[x_i] + sum weight |x_i - x_j|``: true is label 1."""
    count = len(cost0)
    source, sink = count, count + 1
    low = np.minimum(cost0, cost1)
    unit = max(cost0.max(), cost1.max(), weight.max(initial=0.0), np.abs(low).max(), 1e-30) * _UNIT
    nodes = np.arange(count)
    # A block behind the cut's source side has label 0 and pays its edge to the sink.
    tails = np.concatenate([np.full(count, source), nodes, ends[0], ends[1]])
    heads = np.concatenate([nodes, np.full(count, sink), ends[1], ends[0]])
    capacity = np.concatenate([cost1 - low, cost0 - low, weight, weight]) / unit
    graph = coo_matrix((np.rint(capacity).astype(np.int32), (tails, heads)), (count + 2, count + 2)).tocsr()
    residual = graph - maximum_flow(graph, source, sink).flow
    residual.data = np.where(residual.data > 0, 1, 0)
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, source, return_predecessors=False)
    labels = np.ones(count + 2, dtype=bool)
    labels[reached] = False
    return labels[:count]


def alpha_beta_swap(unary: Floats, across: Floats, down: Floats) -> NDArray[np.int64]:
    """Labels ``(h, w)`` of one image: unary ``(L, h, w)``, weights ``(h, w - 1)`` and ``(h - 1, w)``."""
    count, height, width = unary.shape
    cost = unary.reshape(count, -1)
    first, second = grid_edges(height, width)
    weight = np.concatenate([across.ravel(), down.ravel()])
    value = np.arange(count) / (count - 1)

    def energy(labels: NDArray[np.int64]) -> float:
        z = value[labels]
        return float(cost[labels, np.arange(len(labels))].sum() + (weight * (z[first] - z[second]) ** 2).sum())

    labels = cost.argmin(0)
    best, improved = energy(labels), True
    while improved:
        improved = False
        for a, b in combinations(range(count), 2):
            tried = _swap(labels, a, b, cost, (first, second), weight, value)
            if (found := energy(tried)) < best - 1e-9:
                labels, best, improved = tried, found, True
    return labels.reshape(height, width)


def _swap(
    labels: NDArray[np.int64],
    a: int,
    b: int,
    cost: Floats,
    ends: tuple[NDArray[np.int64], NDArray[np.int64]],
    weight: Floats,
    value: Floats,
) -> NDArray[np.int64]:
    """The best labelling in which blocks of label a and b may exchange these two."""
    active = (labels == a) | (labels == b)
    if not active.any():
        return labels
    number = np.cumsum(active) - 1
    own = cost[[a, b]].copy()
    for here, there in (ends, ends[::-1]):
        fixed = active[here] & ~active[there]
        for row, label in enumerate((a, b)):
            np.add.at(own[row], here[fixed], weight[fixed] * (value[label] - value[labels[there[fixed]]]) ** 2)
    both = active[ends[0]] & active[ends[1]]
    inner = number[ends[0][both]], number[ends[1][both]]
    chosen = minimum_cut(own[0][active], own[1][active], inner, weight[both] * (value[a] - value[b]) ** 2)
    swapped = labels.copy()
    swapped[active] = np.where(chosen, b, a)
    return swapped


def dense_transport(saliency: Tensor, mask: Tensor, xi: float) -> Tensor:
    """Plans ``(N, T, T)`` by n rounds of asking and refusing, each over the whole cost matrix."""
    count, n, _ = saliency.shape
    place = torch.arange(n * n)
    row, column = place // n, place % n
    squared = (row.unsqueeze(1) - row).square() + (column.unsqueeze(1) - column).square()
    shown = (mask > 0).float().reshape(count, 1, -1)
    cost = xi * squared / (n - 1) ** 2 - saliency.reshape(count, -1, 1) * shown
    for _ in range(n):
        asked = torch.zeros_like(cost).scatter_(2, cost.argmin(2, keepdim=True), 1.0)
        kept = torch.zeros_like(cost).scatter_(1, (asked * cost).argmin(1, keepdim=True), 1.0) * asked
        cost = cost + (asked - kept)
    return kept
