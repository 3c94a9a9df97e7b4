"""Look-ahead: what a step with each candidate would bring, one real update at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lessonplan.batches import Batch, Samples, Step
from lessonplan.learner import Learner
from lessonplan.mix.network import Passes
from lessonplan.order.measure import has_dropout, measured_loss, untouched
from lessonplan.snapshot import Snapshot

On = Literal["same", "external", "relative"]
External = tuple[Tensor, Tensor]


NOTHING = Passes()


@dataclass
class Look:
    """What a look-ahead says of K candidates.

    Attributes:
        scores: ``(K,)`` on the CPU; the highest is the winner.
        gains: ``(K,)`` drops of the loss that were measured, or None.
        step: what the winner's update saw, if the network is left behind this update; else None.
        passes: what it took, the winner's update not included where it is kept.
        loss: of the external batch where the network is left, if it is known.
    """

    scores: Tensor
    gains: Tensor | None = None
    step: Step | None = None
    passes: Passes = NOTHING
    loss: float | None = None


class Exact:
    """One update with each candidate, undone again (thesis, section 2.4.2).

    With an external batch of E samples and candidates of B it costs K (3 B + E), and E more where the loss before
    is not known yet; on the same batch 4 K B.

    Args:
        learner: makes the updates.
        data: where candidates are read from.
    """

    def __init__(self, learner: Learner, data: Samples) -> None:
        self.learner, self.data = learner, data
        self._before = Snapshot(learner.model, learner.optimizer, learner.scaler)
        self._best = Snapshot(learner.model, learner.optimizer, learner.scaler)

    def look(
        self,
        candidates: Sequence[Batch],
        on: On,
        external: External | None = None,
        *,
        base: float | None = None,
        keep: bool = False,
    ) -> Look:
        """Score candidates.

        Args:
            candidates: K batches.
            on: what the drop of the loss is measured on: the candidate itself, its drop in relation to the loss
                before, or the external batch.
            external: samples and labels, for ``on="external"``.
            base: the external batch's loss as the network is now, if known.
            keep: leave network, optimizer, scaler and random state behind the winner's update, as if it had been
                trained on; otherwise everything is as it was, bit for bit.
        """
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
            scores.append(gains[-1] / before if on == "relative" and before else gains[-1])
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
        self, batch: Batch, external: External | None, base: float | None, size: int
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


def best_of(scores: Tensor) -> int:
    """The position of the highest score, the first of equal ones; NaN is the lowest."""
    return int(scores.nan_to_num(-torch.inf, torch.inf).argsort(descending=True, stable=True)[0])
