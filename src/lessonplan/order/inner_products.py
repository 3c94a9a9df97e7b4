"""Look-ahead to first order: inner products of the candidates' gradients with the external batch's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lessonplan.batches import Batch, Samples
from lessonplan.learner import Learner
from lessonplan.mix.network import Passes
from lessonplan.order.lookahead import External, Look, On
from lessonplan.order.measure import gradients, untouched
from lessonplan.snapshot import Snapshot


class FirstOrder:
    """Score = inner product of a candidate's gradient with the external batch's gradient at the look-ahead point.

    An update moves the weights against the candidate's gradient, so that the product is the drop of the external
    loss to first order, up to what all candidates share (momentum, weight decay). The external gradient is taken
    where an update with the candidates' mean gradient leads: steps are so long that the gradient here says little
    of the gradient there. With adaptive optimizers each coordinate counts as much as its step is long.

    K candidates of B samples and E external ones cost 3 (K B + E).

    Args:
        learner: the network, loss and optimizer.
        data: where candidates are read from.
    """

    def __init__(self, learner: Learner, data: Samples) -> None:
        self.learner, self.data = learner, data
        self._before = Snapshot(learner.model, learner.optimizer, learner.scaler)
        self._trained = [p for p in learner.model.parameters() if p.requires_grad]

    def look(
        self,
        candidates: Sequence[Batch],
        on: On,
        external: External | None = None,
        *,
        base: float | None = None,
        keep: bool = False,
    ) -> Look:
        """Score candidates; everything is as it was afterwards, bit for bit. See ``Exact.look``."""
        del on, base, keep
        assert external is not None
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


def step_along(learner: Learner, parameters: Sequence[nn.Parameter], gradient: Sequence[Tensor]) -> None:
    """Let the optimizer make a step with this gradient, clipped as the loop clips."""
    learner.optimizer.zero_grad(set_to_none=True)
    for parameter, part in zip(parameters, gradient, strict=True):
        parameter.grad = part.to(parameter.dtype).clone()
    if learner.clip is not None:
        nn.utils.clip_grad_norm_(parameters, learner.clip)
    learner.optimizer.step()


def step_scales(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """How far a unit of gradient moves each parameter: the rate, over the root of Adam's second moments."""
    groups = optimizer.param_groups
    rates = {id(p): (group["lr"], group.get("eps", 1e-8)) for group in groups for p in group["params"]}
    scales = []
    for parameter in parameters:
        lr, eps = rates.get(id(parameter), (0.0, 1e-8))
        moment = optimizer.state.get(parameter, {}).get("exp_avg_sq")
        one = torch.as_tensor(lr, dtype=torch.float32, device=parameter.device)
        scales.append(one / (moment.sqrt() + eps) if moment is not None else one)
    return scales


def mean_of(gradients: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The mean of several gradients, parameter by parameter."""
    return [torch.stack(parts).mean(0) for parts in zip(*gradients, strict=True)]


def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """The inner product ``()`` of two lists of tensors."""
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


class LastLayers:
    """The same over the last layers alone, where an update with a few samples of every candidate leads.

    Nothing is kept of the layers before, and backward passes end there. The look-ahead point costs the passes of
    one batch, put together of equal parts of all candidates.

    Args:
        learner: the network, loss and optimizer.
        data: where candidates are read from.
        layers: how many of the last modules with parameters of their own.
    """

    def __init__(self, learner: Learner, data: Samples, layers: int) -> None:
        self.learner, self.data = learner, data
        self._before = Snapshot(learner.model, learner.optimizer, learner.scaler)
        self._trained = [p for p in learner.model.parameters() if p.requires_grad]
        self._last = last_parameters(learner.model, layers)

    def look(
        self,
        candidates: Sequence[Batch],
        on: On,
        external: External | None = None,
        *,
        base: float | None = None,
        keep: bool = False,
    ) -> Look:
        """Score candidates; everything is as it was afterwards, bit for bit. See ``Exact.look``."""
        del on, base, keep
        assert external is not None
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
