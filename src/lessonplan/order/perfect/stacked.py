"""Siblings of the tree trained together: parameters stacked, gradients through ``torch.func``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from lessonplan.network.accelerator import accelerators_of
from lessonplan.network.untouched import seeded
from lessonplan.order.perfect.evaluate import Loss
from lessonplan.order.perfect.state import State, Tensors, join, stack
from lessonplan.order.perfect.tree import Node, grow, pieces
from lessonplan.order.perfect.updates import Update
from lessonplan.seeds import fold_seed

Parts = list[tuple[Tensor, Tensor]]
"""Samples and labels of each batch."""


class StackedTree:
    """Trains a tree piece by piece, at most ``chunk`` networks at a time.

    A level that is larger than ``chunk`` is cut, and each piece is trained to its leaves before the next one
    begins; so at most one piece of every level is held.

    Args:
        network: the architecture, in training mode when it is used.
        update: functional form of the optimizer.
        loss: mean loss of a batch.
        chunk: most networks at a time.
        seed: of the noise.
    """

    def __init__(self, network: nn.Module, update: Update, loss: Loss, chunk: int, seed: int) -> None:
        self._update, self._chunk, self._seed = update, chunk, seed

        def batch_loss(params: Tensors, x: Tensor, y: Tensor) -> Tensor:
            return loss(functional_call(network, params, (x,)), y)

        self._gradients = vmap(grad(batch_loss), randomness="same")

    def leaves(self, start: State, parts: Parts, orders: list[list[int]]) -> Iterator[State]:
        """End states of all orders, stacked, in their order."""
        root = Node(0, -1, 0, len(orders))
        yield from self._descend(stack([start]), [root], parts, orders, 0)

    def _descend(
        self, states: State, nodes: list[Node], parts: Parts, orders: list[list[int]], depth: int
    ) -> Iterator[State]:
        if depth == len(parts):
            yield states
            return
        for piece in pieces(grow(nodes, orders, depth), self._chunk):
            parents = torch.tensor([node.parent for node in piece], device=_device(states))
            advanced = self.advance(states.rows(parents), [node.batch for node in piece], parts, depth)
            yield from self._descend(advanced, piece, parts, orders, depth + 1)

    def advance(self, states: State, batches: list[int], parts: Parts, depth: int) -> State:
        """One update of each of K stacked networks, each with its own batch.

        Args:
            states: K networks.
            batches: K numbers of batches.
            parts: all batches; of unequal sizes, each size is a pass of its own.
            depth: updates before this one.
        """
        sizes = [len(parts[batch][1]) for batch in batches]
        found, places = [], []
        for size in sorted(set(sizes)):
            rows = [row for row, other in enumerate(sizes) if other == size]
            used = sorted({batches[row] for row in rows})
            pick = torch.tensor([used.index(batches[row]) for row in rows], device=_device(states))
            x = torch.stack([parts[batch][0] for batch in used])[pick]
            y = torch.stack([parts[batch][1] for batch in used])[pick]
            chosen = states if len(rows) == len(sizes) else states.rows(torch.tensor(rows, device=_device(states)))
            with seeded(fold_seed(self._seed, "noise", depth), accelerators_of([_device(states)])):
                gradients = self._gradients(chosen.params, x, y)
            found.append(self._update(chosen, gradients))
            places += rows
        if len(found) == 1:
            return found[0]
        return join(found, torch.tensor(places, device=_device(states)).argsort())


def _device(states: State) -> torch.device:
    return next(iter(states.params.values())).device
