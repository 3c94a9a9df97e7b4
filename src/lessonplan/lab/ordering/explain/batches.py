"""What is known of an epoch's batches before any of them is trained on: losses, gradients, curvature, contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from lessonplan.network.untouched import evaluating
from lessonplan.order.perfect import Engine, State

Floats = NDArray[np.float64]
_TINY = 1e-12
_AT_ONCE = 512  # samples whose passes are held


@dataclass(frozen=True)
class Slope:
    """How n batches' gradients g and Hessians H stand to a loss, of which d is the gradient and C the Hessian.

    Attributes:
        along: ``(n,)`` inner products of each g with d.
        bent: ``(n, n)``; row j, column i is d times batch j's H times batch i's g.
        curved: ``(n, n)`` each g times C times each other g; None where that was too dear.
    """

    along: Floats
    bent: Floats
    curved: Floats | None


@dataclass(frozen=True)
class BatchFacts:
    """Of n batches, at one network. The mean is that over all training samples.

    Attributes:
        loss: ``(n,)`` mean loss of each.
        products: ``(n, n)`` inner products of their gradients.
        mean_norm: norm of the mean gradient.
        training: towards the mean loss of the training samples.
        evaluation: towards that of the evaluation samples, which no order may know; they are many, so without
            ``curved``.
        pixels: ``(n, n)`` cosines of their mean samples, the mean of all taken off.
        features: the same of what enters the last linear layer; None of a network that has none.
        classes: ``(n, C)`` shares of the classes, of those that take part.
        overall: ``(C,)`` shares in all training samples.
    """

    loss: Floats
    products: Floats
    mean_norm: float
    training: Slope
    evaluation: Slope
    pixels: Floats
    features: Floats | None
    classes: Floats
    overall: Floats

    @property
    def norms(self) -> Floats:
        """``(n,)`` of the gradients."""
        return np.asarray(np.sqrt(np.maximum(np.diag(self.products), 0.0)))

    @property
    def agreement(self) -> Floats:
        """``(n,)`` cosine of each gradient with the mean gradient."""
        return np.asarray(self.training.along / np.maximum(self.norms * self.mean_norm, _TINY))

    @property
    def cosines(self) -> Floats:
        """``(n, n)`` of the gradients."""
        return np.asarray(self.products / np.maximum(np.outer(self.norms, self.norms), _TINY))

    @property
    def unevenness(self) -> Floats:
        """``(n,)`` in [0, 1]: how much of a batch would have to be of other classes to be as all samples are."""
        return np.asarray(np.abs(self.classes - self.overall).sum(1) / 2)

    @property
    def class_changes(self) -> Floats:
        """``(n, n)`` in [0, 1]: the same between two batches."""
        return np.asarray(np.abs(self.classes[:, None] - self.classes[None]).sum(2) / 2)


def batch_facts(engine: Engine, start: State, batches: tuple[Tensor, ...]) -> BatchFacts:
    """Measure an epoch's batches at one of its starts, with the network in evaluation mode.

    Args:
        engine: of the search; its network is left as it was.
        start: parameters of the network.
        batches: sample numbers, every training sample in one of them.
    """
    weights = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
    weights /= weights.sum()
    with evaluating(engine.network), torch.enable_grad():
        entering = _entering_last(engine.network, start, engine.x)
        passes = _Passes(engine, start)
        held = [passes.gradient(engine.x[b], engine.y[b]) for b in (b.to(engine.x.device) for b in batches)]
        gradients = torch.stack([g.detach() for _, g in held])
        mean = weights.to(gradients) @ gradients
        whole = torch.stack([share * g for share, (_, g) in zip(weights.tolist(), held, strict=True)]).sum(0)
        curved = torch.stack([passes.times(whole, g) for g in gradients])
        outside = passes.of_many(engine.x_eval, engine.y_eval)
        bent, bent_outside = (torch.stack([passes.times(g, d) for _, g in held]) for d in (mean, outside))
    g = gradients.double()
    y = engine.y.cpu()
    there = y.unique()
    shares = torch.stack([(y[batch][:, None] == there).double().mean(0) for batch in batches])
    return BatchFacts(
        loss=_array(torch.stack([loss.detach() for loss, _ in held])),
        products=_array(g @ g.T),
        mean_norm=float(mean.norm()),
        training=Slope(_array(g @ mean.double()), _array(bent.double() @ g.T), _array(curved.double() @ g.T)),
        evaluation=Slope(_array(g @ outside.double()), _array(bent_outside.double() @ g.T), None),
        pixels=_likeness(engine.x, batches),
        features=None if entering is None else _likeness(entering, batches),
        classes=_array(shares),
        overall=_array(weights @ shares),
    )


class _Passes:
    """Gradients of a network's loss at a start, as vectors that can be differentiated once more."""

    def __init__(self, engine: Engine, start: State) -> None:
        self._engine = engine
        self._params = {name: value.detach().clone().requires_grad_() for name, value in start.params.items()}

    def gradient(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of samples, and its gradient ``(D,)``."""
        loss = self._engine.loss(functional_call(self._engine.network, self._params, (x,)), y)
        return loss, self._flat(torch.autograd.grad(loss, self._leaves, create_graph=True, allow_unused=True))

    def times(self, gradient: Tensor, vector: Tensor) -> Tensor:
        """The Hessian behind a gradient times a vector; zero where the gradient depends on nothing."""
        if gradient.grad_fn is None:
            return torch.zeros_like(vector)
        found = torch.autograd.grad(gradient @ vector, self._leaves, retain_graph=True, allow_unused=True)
        return self._flat(found).detach()

    def of_many(self, x: Tensor, y: Tensor) -> Tensor:
        """Gradient of the mean loss of many samples, some of them at a time."""
        total = torch.zeros_like(self._flat([None] * len(self._leaves)))
        for first in range(0, len(y), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            total += len(y[part]) / len(y) * self.gradient(x[part], y[part])[1].detach()
        return total

    @property
    def _leaves(self) -> list[Tensor]:
        return list(self._params.values())

    def _flat(self, found: Sequence[Tensor | None]) -> Tensor:
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(self._leaves, found, strict=True)]
        return torch.cat([part.flatten() for part in parts])


@torch.no_grad()
def _entering_last(network: nn.Module, start: State, x: Tensor) -> Tensor | None:
    """What enters the last of the network's linear layers, ``(N, D)``."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        return None
    seen: list[Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        functional_call(network, start.params, (x,))
    finally:
        hook.remove()
    return seen[-1] if seen and len(seen[-1]) == len(x) else None


def _likeness(x: Tensor, batches: tuple[Tensor, ...]) -> Floats:
    """Cosines ``(n, n)`` of the batches' means, the mean of all samples taken off."""
    flat = x.detach().double().cpu().flatten(1)
    means = torch.stack([flat[batch].mean(0) for batch in batches]) - flat.mean(0)
    unit = means / means.norm(dim=1, keepdim=True).clamp_min(_TINY)
    return _array(unit @ unit.T)


def _array(values: Tensor) -> Floats:
    return np.asarray(values.double().cpu().numpy(), dtype=np.float64)
