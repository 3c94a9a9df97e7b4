"""Look-ahead: what a step with each candidate would bring, one real update at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from lessonplan.batch import Batch, Samples
from lessonplan.network.learner import Learner, Step
from lessonplan.network.passes import Passes
from lessonplan.network.snapshot import Snapshot
from lessonplan.network.untouched import has_dropout, untouched
from lessonplan.order.lookahead.look import ExternalBatch, Goal, Look, LookAhead
from lessonplan.order.measure import measured_loss


class Exact(LookAhead):
    """One update with each candidate, undone again (thesis, section 2.4.2).

    With an external batch of E samples and candidates of B it costs K (3 B + E), and E more where the loss before
    is not known yet; on the same batch 4 K B.

    Args:
        learner: makes the updates.
        data: where candidates are read from.
        layers: not looked at.
    """

    name: ClassVar[str] = "exact"
    needs_external: ClassVar[bool] = False
    measures: ClassVar[bool] = True

    def __init__(self, learner: Learner, data: Samples, *, layers: int = 7) -> None:
        super().__init__(learner, data, layers=layers)
        self._best = Snapshot(learner.model, learner.optimizer, learner.scaler)

    def look(self, candidates: Sequence[Batch], goal: Goal, *, keep: bool = False) -> Look:
        """Score candidates by what their updates do; see ``LookAhead.look``."""
        external, base = goal.external, goal.base
        model, size = self.learner.model, max(len(batch) for batch in candidates)
        if keep:  # the gradients of the last update have done their work, and need not be copied
            self.learner.optimizer.zero_grad(set_to_none=True)
        passes = Passes()
        if external is not None and base is None:
            with untouched(model):
                base = measured_loss(self.learner, *external, size=size).item()
            passes = passes.plus(Passes.forward(len(external[0])))
        self._before.take()
        gains: list[float] = []
        scores: list[float] = []
        step, best, after = None, -float("inf"), None
        for batch in candidates:
            before, loss, seen, extra = self._try(batch, external, base, size)
            gains.append(before - loss)
            scores.append(gains[-1] / before if goal.on == "relative" and before else gains[-1])
            passes = passes.plus(extra)
            if keep and scores[-1] > best:
                best, after = scores[-1], loss
                step = Step(seen.logits.detach(), seen.losses.detach())
                self._best.take()
            self._before.restore()
        if step is not None:
            self._best.restore()
            passes = passes.plus(Passes.both(-len(step.logits)))
        elif external is not None:
            after = base
        return Look(
            torch.tensor(scores), torch.tensor(gains), step, passes, after if external is not None else None
        )

    def _try(
        self, batch: Batch, external: ExternalBatch | None, base: float | None, size: int
    ) -> tuple[float, float, Step, Passes]:
        """Update with a candidate: the loss before and after, what the update saw, what it took."""
        model, passes = self.learner.model, Passes.both(len(batch))
        x, y = batch.read(self.data)
        before = base
        if external is None and has_dropout(model):
            with untouched(model):
                before = measured_loss(self.learner, x, y, size=size, weights=batch.weights).item()
            passes = passes.plus(Passes.forward(len(batch)))
        step = self.learner.losses(x, y)
        minimised = self.learner.update(step, batch.weights)
        if before is None:
            before = minimised.item()
        with untouched(model):
            if external is not None:
                loss = measured_loss(self.learner, *external, size=size).item()
                passes = passes.plus(Passes.forward(len(external[0])))
            else:
                loss = measured_loss(self.learner, x, y, size=size, weights=batch.weights).item()
                passes = passes.plus(Passes.forward(len(batch)))
        return before, loss, step, passes
