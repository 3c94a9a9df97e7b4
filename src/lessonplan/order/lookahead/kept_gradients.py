"""Look-ahead that costs two plain steps: candidates' gradients are kept, and renewed where it matters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lessonplan.batch import Batch, Samples
from lessonplan.network.learner import Learner, Step, weighted_mean
from lessonplan.network.passes import Passes
from lessonplan.network.snapshot import Snapshot
from lessonplan.network.untouched import untouched
from lessonplan.order.lookahead.anchor import Anchor
from lessonplan.order.lookahead.gradients import inner, mean_of, step_along, step_scales
from lessonplan.order.lookahead.look import Goal, Look, LookAhead, best_of, external_of


class _Pass(NamedTuple):
    """A candidate's gradient, what its training pass saw, and what this pass left in buffers and random state."""

    gradient: list[Tensor]
    step: Step
    left: Snapshot


class KeptGradients(LookAhead):
    """First-order scores from gradients that are kept, and renewed where the choice depends on them.

    The gradient of a batch is that of the whole distribution plus the batch's own deviation. The common part
    swings from update to update along the few steepest directions and has to be new; deviations age more slowly.
    So a candidate's deviation is taken when it joins the candidates: its gradient minus the common part of that
    time. The common part is the external gradient (``Anchor``): behind the look before, it stands about where the
    network is now. The look-ahead point is a step with it and the mean deviation, and a candidate's score is the
    inner product of its deviation with the external gradient there; the common part would add the same to all.

    What is chosen by an old score disappoints, and what stays are candidates that are scored too low. So the one
    in front among those with old scores is renewed at every look. This costs little: a winner's gradient is that
    of its update, which is not made twice, and one or two winners in ten are among the others.

    With B samples in a batch and E external ones, a look takes 3 B for each newcomer and for the renewal, less
    3 B where the winner is among these, and about 3 (B / 2 + B / 4) outside; the first one takes 3 (K B + E). So
    looks and updates together take 2.75 to 3 training batches, whatever K is. Memory is that of K + 2 E/B + 4
    gradients (twice K in the first look), K + 2 E/B + 1 of them also in a checkpoint.

    Args:
        learner: the network, loss and optimizer.
        data: where candidates are read from.
        layers: not looked at.
    """

    name: ClassVar[str] = "kept-gradients"
    holds_candidates: ClassVar[bool] = True

    def __init__(self, learner: Learner, data: Samples, *, layers: int = 7) -> None:
        super().__init__(learner, data, layers=layers)
        self._kept: dict[bytes, list[Tensor]] = {}  # deviations
        self._common: list[Tensor] | None = None
        self._anchor = Anchor(learner, self._trained)

    def look(self, candidates: Sequence[Batch], goal: Goal, *, keep: bool = False) -> Look:
        """Score candidates; a winner's update is kept where its gradient is new. See ``LookAhead.look``."""
        external = external_of(goal)
        assert self.learner.scaler is not None
        keep = keep and not self.learner.scaler.is_enabled()
        keys = [batch.indices.numpy().tobytes() + batch.epochs.numpy().tobytes() for batch in candidates]
        self._kept = {key: kept for key, kept in self._kept.items() if key in keys}
        self._before.take()
        new = [place for place, key in enumerate(keys) if key not in self._kept]
        fresh = {place: self._pass(candidates[place]) for place in new}
        here = self._common if self._common is not None else mean_of([seen.gradient for seen in fresh.values()])
        for place, seen in fresh.items():
            self._kept[keys[place]] = list(torch._foreach_sub(seen.gradient, here))
        step_along(self.learner, self._trained, torch._foreach_add(here, mean_of(list(self._kept.values()))))
        with untouched(self.learner.model):
            size = math.ceil(max(len(batch) for batch in candidates) / 2)
            self._common, rows = self._anchor.gradient(external, size)
        self._before.restore()
        scales = step_scales(self.learner.optimizer, self._trained)
        along = [part * scale for part, scale in zip(self._common, scales, strict=True)]
        scores = torch.stack([inner(self._kept[key], along) for key in keys]).cpu()
        old = [place for place in range(len(keys)) if place not in fresh]
        if old:
            front = old[best_of(scores[old])]
            fresh[front] = self._pass(candidates[front])
            self._kept[keys[front]] = list(torch._foreach_sub(fresh[front].gradient, here))
            scores[front] = inner(self._kept[keys[front]], along)
        rows += sum(len(candidates[place]) for place in fresh)
        winner = fresh.get(best_of(scores))
        if winner is None or not keep:
            return Look(scores, passes=Passes.both(rows))
        winner.left.restore()
        step_along(self.learner, self._trained, winner.gradient)
        return Look(scores, step=winner.step, passes=Passes.both(rows - len(winner.step.logits)))

    def _pass(self, batch: Batch) -> _Pass:
        """A training pass, undone again."""
        parts, step = self._training_pass(batch)
        left = Snapshot(self.learner.model, parameters=False)
        left.take()
        self._before.restore()
        return _Pass(parts, step, left)

    def _training_pass(self, batch: Batch) -> tuple[list[Tensor], Step]:
        """Gradient and losses, with all that a training pass leaves behind in buffers and random state."""
        x, y = batch.read(self.data)
        step = self.learner.losses(x, y)
        assert self.learner.scaler is not None
        loss = self.learner.scaler.scale(weighted_mean(step.losses, batch.weights))
        found = torch.autograd.grad(loss, self._trained, allow_unused=True)
        factor = 1 / self.learner.scaler.get_scale() if self.learner.scaler.is_enabled() else 1.0
        parts = [
            (g if factor == 1.0 else g * factor) if g is not None else torch.zeros_like(p)
            for g, p in zip(found, self._trained, strict=True)
        ]
        return parts, Step(step.logits.detach(), step.losses.detach())

    def state_dict(self) -> dict[str, Any]:
        """The gradients that are kept."""
        return {
            "keys": list(self._kept),
            "deviations": list(self._kept.values()),
            "common": self._common,
            "anchor": self._anchor.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""

        def here(parts: list[Tensor]) -> list[Tensor]:
            return [part.to(p.device) for part, p in zip(parts, self._trained, strict=True)]

        self._kept = {key: here(parts) for key, parts in zip(state["keys"], state["deviations"], strict=True)}
        self._common = here(state["common"]) if state["common"] is not None else None
        self._anchor.load_state_dict(state["anchor"])
