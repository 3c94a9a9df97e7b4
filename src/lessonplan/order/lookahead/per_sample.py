"""Look-ahead that judges samples instead of batches: which of them lose when the external loss falls?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lessonplan.batch import Batch, Samples
from lessonplan.errors import ConfigError
from lessonplan.network.accelerator import is_accelerator
from lessonplan.network.learner import Learner
from lessonplan.network.passes import Passes
from lessonplan.network.untouched import untouched
from lessonplan.order.lookahead.anchor import Anchor
from lessonplan.order.lookahead.gradients import gradients, step_along, step_scales
from lessonplan.order.lookahead.look import Goal, Look, LookAhead, external_of

_PIECES = 4  # of a batch; so much of the external batch is read at a look


class PerSample(LookAhead):
    """First-order scores of single samples, by two forward passes and no gradient of theirs.

    To first order an update with a sample lowers the external loss by the inner product of their gradients, and
    that is symmetric: a step along the external gradient lowers the sample's loss by as much. So one direction,
    the external gradient at the look-ahead point (``Anchor``), serves all samples, and the derivative of their
    losses along it is a difference of two forward passes, half an update's length to either side.

    The mean of B samples chosen from K B deviates much farther from what is usual than the best of K random
    batches does; so K = 2 is enough, and more would overshoot along the steep directions.

    The look-ahead point is a step with the external gradient of the look before, at the first look with that of
    the first candidate. With E external samples a look takes 2 K B forward passes and the gradient of B / 4
    samples, and of all E at every 8 E / B looks and when the external batch changes.

    Args:
        learner: the network, loss and optimizer.
        data: where candidates are read from.
        layers: not looked at.
    """

    name: ClassVar[str] = "per-sample"
    judges_samples: ClassVar[bool] = True

    def __init__(self, learner: Learner, data: Samples, *, layers: int = 7) -> None:
        super().__init__(learner, data, layers=layers)
        self._last: list[Tensor] | None = None
        self._anchor = Anchor(learner, self._trained)

    def look(self, candidates: Sequence[Batch], goal: Goal, *, keep: bool = False) -> Look:
        """Score all samples of the candidates ``(K B,)``; no update is kept. See ``LookAhead.look``.

        Raises:
            ConfigError: the loss function gives no loss for each sample.
        """
        del keep
        external = external_of(goal)
        self._before.take()
        here = [p.detach().clone() for p in self._trained]
        rows = 0
        with untouched(self.learner.model):
            step = self._last
            if step is None:
                x, y = candidates[0].read(self.data)
                step = gradients(self.learner, x, y, self._trained, weights=candidates[0].weights)
                rows += len(x)
            step_along(self.learner, self._trained, step)
            piece = math.ceil(max(len(batch) for batch in candidates) / _PIECES)
            self._last, more = self._anchor.gradient(external, piece)
            scales = step_scales(self.learner.optimizer, self._trained)
            along = [part * scale for part, scale in zip(self._last, scales, strict=True)]
            length = _norm([there - p for there, p in zip(self._trained, here, strict=True)])
            half = 0.5 * (length / _norm(along).clamp(min=1e-30))
            above = self._losses(candidates, along, half)
            below = self._losses(candidates, along, -2 * half)
        self._before.restore()
        passes = Passes.both(rows + more).plus(Passes.forward(2 * len(above)))
        return Look((above - below).cpu(), passes=passes)

    @torch.no_grad()
    def _losses(self, candidates: Sequence[Batch], along: Sequence[Tensor], far: Tensor) -> Tensor:
        """Go so far, and take the losses of all samples times their weights.

        Each batch is normalised by itself, as in training.
        """
        for parameter, part in zip(self._trained, along, strict=True):
            if is_accelerator(parameter.device):
                parameter.addcmul_(part, far)  # nobody waits to know how far
            else:
                parameter.add_(part, alpha=far.item())
        found = []
        for batch in candidates:
            losses = self.learner.losses(*batch.read(self.data)).losses.float()
            if losses.shape != (len(batch),):
                raise ConfigError(
                    f"loss-delta: method=per-sample needs a loss for each of {len(batch)} samples, and the loss"
                    f" function gives the shape {tuple(losses.shape)}: give one with reduction='none'"
                )
            if batch.weights is not None:
                losses = losses * batch.weights.to(losses.device, non_blocking=True)
            found.append(losses)
        return torch.cat(found)

    def state_dict(self) -> dict[str, Any]:
        """The external gradients."""
        return {"last": self._last, "anchor": self._anchor.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        last = state["last"]
        self._last = last and [part.to(p.device) for part, p in zip(last, self._trained, strict=True)]
        self._anchor.load_state_dict(state["anchor"])


def _norm(parts: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm ``()`` of all of them together."""
    return torch.stack([part.float().square().sum() for part in parts]).sum().sqrt()
