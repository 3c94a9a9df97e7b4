"""Look-ahead to first order over the last layers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import nn

from lessonplan.batch import Batch, Samples
from lessonplan.network.learner import Learner
from lessonplan.network.passes import Passes
from lessonplan.network.untouched import untouched
from lessonplan.order.lookahead.gradients import gradients, inner, step_along, step_scales
from lessonplan.order.lookahead.look import Goal, Look, LookAhead, external_of


class LastLayers(LookAhead):
    """The same over the last layers alone, where an update with a few samples of every candidate leads.

    Nothing is kept of the layers before, and backward passes end there. The look-ahead point costs the passes of
    one batch, put together of equal parts of all candidates.

    Args:
        learner: the network, loss and optimizer.
        data: where candidates are read from.
        layers: how many of the last modules with parameters of their own.
    """

    name: ClassVar[str] = "last-layers"

    def __init__(self, learner: Learner, data: Samples, *, layers: int = 7) -> None:
        super().__init__(learner, data, layers=layers)
        self._last = last_parameters(learner.model, layers)

    def look(self, candidates: Sequence[Batch], goal: Goal, *, keep: bool = False) -> Look:
        """Score candidates; no update is kept. See ``LookAhead.look``."""
        del keep
        external = external_of(goal)
        size = max(len(batch) for batch in candidates)
        read = [batch.read(self.data) for batch in candidates]
        share = -(-size // len(candidates))
        x, y = torch.cat([a[:share] for a, _ in read]), torch.cat([b[:share] for _, b in read])
        self._before.take()
        with untouched(self.learner.model):
            step_along(self.learner, self._trained, gradients(self.learner, x, y, self._trained))
            with self._only_last():
                there = gradients(self.learner, *external, self._last, size=size)
                self._before.restore()
                scales = step_scales(self.learner.optimizer, self._last)
                along = [g * s for g, s in zip(there, scales, strict=True)]
                scores = [
                    inner(gradients(self.learner, a, b, self._last, weights=batch.weights), along)
                    for batch, (a, b) in zip(candidates, read, strict=True)
                ]
        self._before.restore()
        rows = sum(len(batch) for batch in candidates) + len(external[0])
        partly = Passes(
            rows, 2 * rows, rows, rows
        )  # a backward pass that ends early counts as one of its two halves
        return Look(torch.stack(scores).cpu(), passes=Passes.both(len(x)).plus(partly))

    @contextmanager
    def _only_last(self) -> Iterator[None]:
        """No graph through the layers before the last ones."""
        last = {id(p) for p in self._last}
        others = [p for p in self._trained if id(p) not in last]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)


def last_parameters(model: nn.Module, layers: int) -> list[nn.Parameter]:
    """The trained parameters of the last modules, in the order in which the network names them."""
    modules = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    return [p for m in modules[-layers:] for p in m.parameters(recurse=False) if p.requires_grad]
