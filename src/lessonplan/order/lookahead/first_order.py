"""Look-ahead to first order: inner products of the candidates' gradients with the external batch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from lessonplan.batch import Batch
from lessonplan.network.passes import Passes
from lessonplan.network.untouched import untouched
from lessonplan.order.lookahead.gradients import gradients, inner, mean_of, step_along, step_scales
from lessonplan.order.lookahead.look import Goal, Look, LookAhead, external_of


class FirstOrder(LookAhead):
    """Score = inner product of a candidate's gradient with the external batch's gradient at the look-ahead point.

    An update moves the weights against the candidate's gradient, so that the product is the drop of the external
    loss to first order, up to what all candidates share (momentum, weight decay). The external gradient is taken
    where an update with the candidates' mean gradient leads: steps are so long that the gradient here says little
    of the gradient there. With adaptive optimizers each coordinate counts as much as its step is long.

    K candidates of B samples and E external ones cost 3 (K B + E).
    """

    name: ClassVar[str] = "first-order"

    def look(self, candidates: Sequence[Batch], goal: Goal, *, keep: bool = False) -> Look:
        """Score candidates; no update is kept. See ``LookAhead.look``."""
        del keep
        external = external_of(goal)
        self._before.take()
        with untouched(self.learner.model):
            each = [
                gradients(self.learner, *batch.read(self.data), self._trained, weights=batch.weights)
                for batch in candidates
            ]
            step_along(self.learner, self._trained, mean_of(each))
            there = gradients(self.learner, *external, self._trained, size=max(len(batch) for batch in candidates))
        self._before.restore()
        scales = step_scales(self.learner.optimizer, self._trained)
        along = [g * s for g, s in zip(there, scales, strict=True)]
        scores = torch.stack([inner(g, along) for g in each]).cpu()
        samples = sum(len(batch) for batch in candidates) + len(external[0])
        return Look(scores, passes=Passes.both(samples))
