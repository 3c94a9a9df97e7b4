"""The same tree with one network at a time, for optimizers and networks that cannot be stacked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lessonplan.network.accelerator import accelerators_of
from lessonplan.network.untouched import seeded
from lessonplan.order.perfect.evaluate import Loss
from lessonplan.order.perfect.state import State, stack, start_state
from lessonplan.order.perfect.tree import Node, grow
from lessonplan.seeds import fold_seed

Parts = list[tuple[Tensor, Tensor]]
"""Samples and labels of each batch."""

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Given the parameters, makes any PyTorch optimizer."""


def plain_leaves(
    network: nn.Module,
    optimizer: OptimizerFactory,
    loss: Loss,
    seed: int,
    start: State,
    parts: Parts,
    orders: list[list[int]],
) -> Iterator[State]:
    """End states of all orders, in their order, each as a stack of one.

    Where orders part, the network is copied and a new optimizer is given the state of the old one; so as many of
    both are held as there are batches.
    """
    model = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in start.params:
                parameter.copy_(start.params[name])
    root = Node(0, -1, 0, len(orders))
    yield from _descend(model, optimizer, None, root, loss, seed, parts, orders, 0)


def _descend(
    model: nn.Module,
    factory: OptimizerFactory,
    remembered: dict[str, Any] | None,
    node: Node,
    loss: Loss,
    seed: int,
    parts: Parts,
    orders: list[list[int]],
    depth: int,
) -> Iterator[State]:
    if depth == len(parts):
        yield stack([start_state(model)])
        return
    for child in grow([node], orders, depth):
        other = copy.deepcopy(model)
        stepper = factory([p for p in other.parameters() if p.requires_grad])
        if remembered is not None:
            stepper.load_state_dict(copy.deepcopy(remembered))
        x, y = parts[child.batch]

        def closure(other: nn.Module = other, stepper: Optimizer = stepper, x: Tensor = x, y: Tensor = y) -> float:
            stepper.zero_grad()
            value = loss(other(x), y)
            value.backward()
            return float(value.detach())

        with seeded(fold_seed(seed, "noise", depth), accelerators_of([x.device])), torch.enable_grad():
            stepper.step(closure)
        yield from _descend(other, factory, stepper.state_dict(), child, loss, seed, parts, orders, depth + 1)
