"""Permutations as a tree of common beginnings: an update that many orders share is made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor


@dataclass(frozen=True)
class Node:
    """A beginning that some orders share.

    Attributes:
        parent: place of the beginning without its last batch, in the piece that was handed in.
        batch: the last batch of the beginning.
        first: first row of the orders that begin so.
        last: one past their last row.
    """

    parent: int
    batch: int
    first: int
    last: int


def grow(nodes: list[Node], orders: list[list[int]], depth: int) -> list[Node]:
    """The beginnings one batch longer; ``parent`` counts in ``nodes``.

    Args:
        nodes: beginnings of ``depth`` batches.
        orders: all orders, sorted, so that common beginnings stand together.
        depth: 0 for the empty beginning.
    """
    longer = []
    for place, node in enumerate(nodes):
        for batch, rows in groupby(range(node.first, node.last), key=lambda row: orders[row][depth]):
            found = list(rows)
            longer.append(Node(place, batch, found[0], found[-1] + 1))
    return longer


def pieces(nodes: list[Node], size: int) -> Iterator[list[Node]]:
    """Consecutive nodes, at most ``size`` at a time."""
    for first in range(0, len(nodes), size):
        yield nodes[first : first + size]


def sorted_orders(orders: Tensor) -> list[list[int]]:
    """Orders as sorted lists; a search hands them over sorted already, which this leaves as it is."""
    return sorted(orders.tolist())
