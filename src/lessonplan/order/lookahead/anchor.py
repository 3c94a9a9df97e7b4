"""The gradient of a whole external batch for the passes of a part of it (variance reduction by an anchor)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.network.learner import Learner
from lessonplan.order.lookahead.gradients import gradients, mean_of
from lessonplan.order.lookahead.look import ExternalBatch
from lessonplan.order.measure import pieces

_TURNS = 2  # how often every piece is read between two anchors


class Anchor:
    """The external gradient, taken whole from time to time and followed by pieces in between.

    A piece's gradient differs from the whole batch's by a deviation that hardly changes while the weights move. So
    the gradient now is taken to be that of the whole at the anchor plus the piece's now minus the piece's at the
    anchor (Johnson and Zhang, NeurIPS 2013, "Accelerating stochastic gradient descent using predictive variance
    reduction", algorithm 1). Pieces take turns; the anchor is renewed when each has been read twice, or when the
    external batch is another one.

    Args:
        learner: the network and its loss.
        parameters: what gradients are taken with respect to.
    """

    def __init__(self, learner: Learner, parameters: list[nn.Parameter]) -> None:
        self.learner, self.parameters = learner, parameters
        self._pieces: list[list[Tensor]] = []  # at the anchor
        self._size, self._turn = 0, 0
        self._mark: tuple[Tensor, Tensor] | None = None
        self._known: Tensor | None = None  # labels that have been compared with the mark's

    def gradient(self, external: ExternalBatch, size: int) -> tuple[list[Tensor], int]:
        """The gradient of the mean loss where the network is now, within ``untouched``.

        Args:
            external: samples ``(E, ...)`` and labels ``(E,)``.
            size: largest piece; heard when an anchor is taken.

        Returns:
            The gradient, and how many samples were passed.
        """
        x, y = external
        self._turn += 1
        if self._is_other(x, y) or self._turn >= _TURNS * len(self._pieces):
            self._size, self._turn, self._mark = size, 0, (x[:1].clone(), y.clone())
            self._pieces = [gradients(self.learner, a, b, self.parameters) for a, b in pieces(x, y, size)]
            return self._whole(y), len(x)
        parts = list(pieces(x, y, self._size))
        place = self._turn % len(parts)
        now = gradients(self.learner, *parts[place], self.parameters)
        moved = torch._foreach_sub(now, self._pieces[place])
        return list(torch._foreach_add(self._whole(y), moved)), len(parts[place][0])

    def _is_other(self, x: Tensor, y: Tensor) -> bool:
        if self._known is y:
            return False
        self._known = y
        return self._mark is None or not (torch.equal(self._mark[1], y) and torch.equal(self._mark[0], x[:1]))

    def _whole(self, y: Tensor) -> list[Tensor]:
        """The mean over all samples at the anchor; pieces may differ in size by one sample."""
        sizes = [len(part) for part in y.tensor_split(len(self._pieces))]
        weighted = [
            [g * (n * len(sizes) / len(y)) for g in part] for n, part in zip(sizes, self._pieces, strict=True)
        ]
        return mean_of(weighted)

    def state_dict(self) -> dict[str, Any]:
        """The gradients at the anchor and the turn."""
        mark = None if self._mark is None else list(self._mark)
        return {"pieces": self._pieces, "size": self._size, "turn": self._turn, "mark": mark}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        self._pieces = [
            [g.to(p.device) for g, p in zip(part, self.parameters, strict=True)] for part in state["pieces"]
        ]
        self._size, self._turn, self._known = state["size"], state["turn"], None
        device = self.parameters[0].device
        self._mark = None if state["mark"] is None else (state["mark"][0].to(device), state["mark"][1].to(device))
