"""Gradients of losses, and what an optimizer makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lessonplan.network.learner import Learner, forget_gradients, weighted_mean
from lessonplan.order.measure import pieces


def gradients(
    learner: Learner,
    x: Tensor,
    y: Tensor,
    parameters: Sequence[nn.Parameter],
    *,
    weights: Tensor | None = None,
    size: int | None = None,
) -> list[Tensor]:
    """The gradient of the mean loss with respect to some parameters; ``p.grad`` is left alone.

    Args:
        x, y: samples and labels.
        parameters: the backward pass goes no deeper than these.
        weights: ``(B,)`` factors of the losses.
        size: largest part that is read at once; None reads all at once.
    """
    assert learner.scaler is not None
    total: list[Tensor] = []
    for a, b in pieces(x, y, size or len(x)):
        loss = weighted_mean(learner.losses(a, b).losses, weights) * (len(a) / len(x))
        found = torch.autograd.grad(learner.scaler.scale(loss), parameters, allow_unused=True)
        part = [g if g is not None else torch.zeros_like(p) for g, p in zip(found, parameters, strict=True)]
        total = part if not total else list(torch._foreach_add(total, part))
    if learner.scaler.is_enabled():
        total = list(torch._foreach_mul(total, 1 / learner.scaler.get_scale()))
    return total


def step_along(learner: Learner, parameters: Sequence[nn.Parameter], gradient: Sequence[Tensor]) -> None:
    """Let the optimizer make a step with this gradient, clipped as the loop clips."""
    forget_gradients(learner.optimizer)
    for parameter, part in zip(parameters, gradient, strict=True):
        # In the parameter's own layout: fused optimizers read both as flat memory.
        parameter.grad = torch.empty_like(parameter).copy_(part)
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
        one = torch.full((), float(lr), dtype=torch.float32, device=parameter.device)
        scales.append(one / (moment.sqrt() + eps) if moment is not None else one)
    return scales


def mean_of(gradients: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The mean of several gradients, parameter by parameter."""
    return [torch.stack(parts).mean(0) for parts in zip(*gradients, strict=True)]


def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """The inner product ``()`` of two lists of tensors."""
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()
