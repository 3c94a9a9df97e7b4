"""Look-ahead at the cost of two batches: the candidates' gradients are kept from earlier looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lessonplan.batches import Batch, Samples, Step
from lessonplan.learner import Learner, weighted_mean
from lessonplan.mix.network import Passes
from lessonplan.order.inner_products import inner, mean_of, step_along, step_scales
from lessonplan.order.lookahead import External, Look, On, best_of
from lessonplan.order.measure import gradients, pieces, untouched
from lessonplan.snapshot import Snapshot

_NEWEST = 0.25  # weight of the newest external gradient in the running mean
_PIECE = 0.75  # samples of a piece of the external batch, in training batches


class Cached:
    """First-order scores whose two parts are paid for at different times.

    What tells candidates apart ages slowly: a gradient that is a few updates old still orders them nearly as a
    new one does. So a candidate's gradient is taken when it joins the candidates, and the oldest one's is renewed
    where nobody joins or where the look before has saved an update. The external gradient swings from update to
    update, and its mean over some of them says more than a single one: each look takes it on another piece of the
    external batch (3/4 of a training batch), behind a step with the mean of the newest gradient and of all kept
    ones' mean, and averages it with those before (the newest has weight 1/4).

    Looks and updates together cost 2.75 training batches an update, whatever K is; the first look costs K + 0.75.
    An update is saved where the newest candidate wins: it has been made already. Memory is that of K + 1
    gradients, also in a checkpoint.

    Args:
        learner: the network, loss and optimizer.
        data: where candidates are read from.
    """

    def __init__(self, learner: Learner, data: Samples) -> None:
        self.learner, self.data = learner, data
        self._before = Snapshot(learner.model, learner.optimizer, learner.scaler)
        self._passed = Snapshot(learner.model, parameters=False)
        self._trained = [p for p in learner.model.parameters() if p.requires_grad]
        self._kept: dict[bytes, list[Tensor]] = {}  # the oldest first
        self._external: list[Tensor] | None = None
        self._turn = 0
        self._saved = False  # whether the last winner's update was made here

    def look(
        self,
        candidates: Sequence[Batch],
        on: On,
        external: External | None = None,
        *,
        base: float | None = None,
        keep: bool = False,
    ) -> Look:
        """Score candidates; see ``Exact.look``. A winner's update is kept where it is the newest candidate."""
        del on, base
        assert external is not None
        assert self.learner.scaler is not None
        keep = keep and not self.learner.scaler.is_enabled()
        keys = [batch.indices.numpy().tobytes() + batch.epochs.numpy().tobytes() for batch in candidates]
        self._kept = {key: kept for key, kept in self._kept.items() if key in keys}
        fresh = [place for place, key in enumerate(keys) if key not in self._kept]
        if self._kept and (self._saved or not fresh):
            fresh.insert(0, keys.index(next(iter(self._kept))))
        self._before.take()
        for place in fresh:
            self._kept.pop(keys[place], None)
            self._kept[keys[place]], step = self._training_pass(candidates[place])
            self._passed.take()
            self._before.restore()
        rows = self._look_outside([self._kept[keys[place]] for place in fresh], candidates[fresh[-1]], external)
        self._before.restore()
        assert self._external is not None
        scales = step_scales(self.learner.optimizer, self._trained)
        along = [part * scale for part, scale in zip(self._external, scales, strict=True)]
        scores = torch.stack([inner(self._kept[key], along) for key in keys]).cpu()
        rows += sum(len(candidates[place]) for place in fresh)
        self._saved = keep and best_of(scores) == fresh[-1]
        if self._saved:
            self._passed.restore()
            step_along(self.learner, self._trained, self._kept[keys[fresh[-1]]])
            return Look(scores, step=step, passes=Passes.both(rows - len(step.logits)))
        return Look(scores, passes=Passes.both(rows))

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

    def _look_outside(self, fresh: list[list[Tensor]], newest: Batch, external: External) -> int:
        """Renew the external gradient at the look-ahead point; says how many samples it took."""
        both = zip(mean_of(fresh), mean_of(list(self._kept.values())), strict=True)
        step_along(self.learner, self._trained, [(new + every) / 2 for new, every in both])
        parts = list(pieces(*external, math.ceil(_PIECE * len(newest))))
        x, y = parts[self._turn % len(parts)]
        self._turn += 1
        with untouched(self.learner.model):
            there = gradients(self.learner, x, y, self._trained)
        if self._external is None:
            self._external = there
        else:
            self._external = list(torch._foreach_lerp(self._external, there, _NEWEST))
        return len(x)

    def state_dict(self) -> dict[str, Any]:
        """The gradients that are kept."""
        return {
            "keys": list(self._kept),
            "gradients": list(self._kept.values()),
            "external": self._external,
            "turn": self._turn,
            "saved": self._saved,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""

        def here(parts: list[Tensor]) -> list[Tensor]:
            return [part.to(p.device) for part, p in zip(parts, self._trained, strict=True)]

        self._kept = {key: here(parts) for key, parts in zip(state["keys"], state["gradients"], strict=True)}
        self._external = here(state["external"]) if state["external"] is not None else None
        self._turn, self._saved = state["turn"], state["saved"]
