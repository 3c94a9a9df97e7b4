"""Look-ahead: what a step with each candidate would bring, one real update at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lessonplan.batch import Batch, Samples
from lessonplan.network.best_snapshot import BestSnapshot
from lessonplan.network.learner import Learner, Step, forget_gradients
from lessonplan.network.passes import Passes
from lessonplan.network.untouched import has_dropout, untouched
from lessonplan.order.lookahead.levelled import followed
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
    shares: ClassVar[bool] = True

    def __init__(self, learner: Learner, data: Samples, *, layers: int = 7) -> None:
        super().__init__(learner, data, layers=layers)
        self._best = BestSnapshot(learner.model, learner.optimizer, learner.scaler)

    def look(self, candidates: Sequence[Batch], goal: Goal, *, keep: bool = False) -> Look:
        """Score candidates by what their updates do; see ``LookAhead.look``.

        Losses stay where the network is until all candidates have been tried, so that nobody waits for a device
        more than once.
        """
        external, ranks = goal.external, self.learner.network.ranks
        model, size = self.learner.model, max(len(batch) for batch in candidates)
        if keep:  # the gradients of the last update have done their work, and need not be copied
            forget_gradients(self.learner.optimizer)
        outside, tries = Passes(), Passes()
        base: Tensor | None = None
        if external is not None and goal.base is None:
            with untouched(model):
                base = measured_loss(self.learner, *external, size=size)
            outside = Passes.forward(len(external[0]))
            if not ranks.alone:
                ranks.level([base])
        elif external is not None and goal.base is not None:
            base = torch.full((), goal.base, dtype=torch.float32, device=external[0].device)
        self._before.take()
        tried: list[Tensor] = []  # score, gain and loss of each
        steps: list[Step] = []
        best: Tensor | None = None
        for place in range(ranks.rank, len(candidates), ranks.count):
            before, loss, step, extra = self._try(candidates[place], external, base, size)
            tried.append(_judged(before, loss, relative=goal.on == "relative"))
            tries = tries.plus(extra)
            if keep:
                score = tried[-1][0]
                better = score > (-torch.inf if best is None else best)
                best = torch.where(better, score, -torch.inf if best is None else best)
                self._best.offer(better)
                steps.append(Step(step.logits.detach(), step.losses.detach()))
            self._before.restore()
        values, after = self._values(tried, base, len(candidates))
        scores, gains, losses = values.unbind(1)
        if not ranks.alone:
            tries = Passes(*map(round, ranks.summed(tries)))
        passes = outside.plus(tries)
        winner = _first_best(scores.tolist()) if keep else None
        if winner is None:
            self._best.begin()
            return Look(scores.float(), gains.float(), None, passes, after)
        step = self._keep(winner, scores, steps)
        passes = passes.plus(Passes.both(-len(step.logits)))
        after = float(losses[winner]) if external is not None else None
        return Look(scores.float(), gains.float(), step, passes, after)

    def _values(self, tried: list[Tensor], base: Tensor | None, count: int) -> tuple[Tensor, float | None]:
        """Score, gain and loss of all candidates ``(K, 3)``, and the loss before; a device is waited for once."""
        ranks = self.learner.network.ranks
        if not tried:  # more ranks than candidates
            own, after = torch.zeros(0, 3, dtype=torch.float64), float(base) if base is not None else None
        else:
            known = [base.to(tried[0].dtype)[None]] if base is not None else []
            values = torch.cat([*tried, *known]).cpu()
            own, after = values[: 3 * len(tried)].view(-1, 3), float(values[-1]) if base is not None else None
        if ranks.alone:
            return own, after
        return torch.stack(ranks.each(range(count), lambda place: own[place // ranks.count], [3] * count)), after

    def _keep(self, winner: int, scores: Tensor, steps: list[Step]) -> Step:
        """Go behind the winner's update: that of the rank which has made it, for all; what it saw."""
        ranks = self.learner.network.ranks
        if ranks.alone:
            self._best.restore_offered(winner)
            return steps[winner]
        own = _first_best(scores[ranks.rank :: ranks.count].tolist())
        if own is None:
            self._best.begin()
        else:
            self._best.restore_offered(own)
        step = followed(self.learner, steps[own] if own is not None else None, winner % ranks.count)
        assert step is not None
        return step

    def _try(
        self, batch: Batch, external: ExternalBatch | None, base: Tensor | None, size: int
    ) -> tuple[Tensor, Tensor, Step, Passes]:
        """Update with a candidate: the loss ``()`` before and after, what the update saw, what it took."""
        model, passes = self.learner.model, Passes.both(len(batch))
        x, y = batch.read(self.data)
        before = base
        if external is None and has_dropout(model):
            with untouched(model):
                before = measured_loss(self.learner, x, y, size=size, weights=batch.weights)
            passes = passes.plus(Passes.forward(len(batch)))
        step = self.learner.losses(x, y)
        minimised = self.learner.update(step, batch.weights)
        if before is None:
            before = minimised
        with untouched(model):
            if external is not None:
                loss = measured_loss(self.learner, *external, size=size)
                passes = passes.plus(Passes.forward(len(external[0])))
            else:
                loss = measured_loss(self.learner, x, y, size=size, weights=batch.weights)
                passes = passes.plus(Passes.forward(len(batch)))
        return before, loss, step, passes


def _judged(before: Tensor, loss: Tensor, *, relative: bool) -> Tensor:
    """Score, gain and loss ``(3,)``, in float64 where the device has it."""
    wide = torch.float32 if before.device.type == "mps" else torch.float64
    before, loss = before.to(wide), loss.to(wide)
    gain = before - loss
    score = torch.where(before != 0, gain / before, gain) if relative else gain
    return torch.stack([score, gain, loss])


def _first_best(scores: list[float]) -> int | None:
    """The position of the highest score, the first of equal ones; None if none is above minus infinity."""
    best = max((score for score in scores if score > -math.inf), default=None)
    return scores.index(best) if best is not None else None
