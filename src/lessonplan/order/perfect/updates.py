"""Update rules of PyTorch's optimizers as functions of tensors, for many networks at a time.

Every operation is element by element, so that a leading dimension of stacked networks changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.optim import Optimizer

from lessonplan.order.perfect.state import State, Tensors


class Update(Protocol):
    """Parameters, gradients and what is remembered to the state after one update."""

    def __call__(self, state: State, gradients: Tensors) -> State:
        """The state after an update; ``state`` is left as it was."""


@dataclass(frozen=True)
class SGD:
    """``torch.optim.SGD``: momentum, dampening, Nesterov, weight decay (L2)."""

    lr: float
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __call__(self, state: State, gradients: Tensors) -> State:
        """The next state of all networks, from theirs and their gradients; see ``Update``."""
        params, buffers = {}, {}
        before = state.slots.get("momentum", {})
        for name, p in state.params.items():
            gradient = gradients[name]
            if self.weight_decay:
                gradient = gradient.add(p, alpha=self.weight_decay)
            if self.momentum:
                if name in before:
                    buffer = (before[name] * self.momentum).add_(gradient, alpha=1 - self.dampening)
                else:  # the first update fills the buffer undamped
                    buffer = gradient.clone()
                buffers[name] = buffer
                gradient = gradient.add(buffer, alpha=self.momentum) if self.nesterov else buffer
            params[name] = p.add(gradient, alpha=-self.lr)
        return State(params, {"momentum": buffers} if self.momentum else {}, state.steps + 1)


@dataclass(frozen=True)
class Adam:
    """``torch.optim.Adam``, and ``AdamW`` where the weight decay is decoupled."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float = 0.0
    decoupled: bool = False

    def __call__(self, state: State, gradients: Tensors) -> State:
        """The next state of all networks, from theirs and their gradients; see ``Update``."""
        steps = state.steps + 1
        size = self.lr / (1 - self.beta1**steps)
        root = math.sqrt(1 - self.beta2**steps)
        means, squares = state.slots.get("mean", {}), state.slots.get("square", {})
        params, new_means, new_squares = {}, {}, {}
        for name, p in state.params.items():
            gradient = gradients[name]
            if self.weight_decay and self.decoupled:
                p = p * (1 - self.lr * self.weight_decay)
            elif self.weight_decay:
                gradient = gradient.add(p, alpha=self.weight_decay)
            mean = means[name] if name in means else torch.zeros_like(p)
            square = squares[name] if name in squares else torch.zeros_like(p)
            mean = mean.lerp(gradient, 1 - self.beta1)
            square = (square * self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            params[name] = p.addcdiv(mean, (square.sqrt() / root).add_(self.eps), value=-size)
            new_means[name], new_squares[name] = mean, square
        return State(params, {"mean": new_means, "square": new_squares}, steps)


def functional_update(optimizer: Optimizer) -> Update | None:
    """The rule of an optimizer with one group, or None where there is no functional form of it here."""
    if len(optimizer.param_groups) != 1:
        return None
    group = optimizer.param_groups[0]
    if group.get("maximize") or group.get("amsgrad"):
        return None
    lr, decay = float(group["lr"]), float(group.get("weight_decay", 0.0))
    if type(optimizer) is torch.optim.SGD:
        return SGD(lr, float(group["momentum"]), float(group["dampening"]), bool(group["nesterov"]), decay)
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
        beta1, beta2 = (float(beta) for beta in group["betas"])
        decoupled = type(optimizer) is torch.optim.AdamW or bool(group.get("decoupled_weight_decay"))
        return Adam(lr, beta1, beta2, float(group["eps"]), decay, decoupled)
    return None
