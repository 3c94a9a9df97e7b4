"""Gradients are forgotten as PyTorch forgets them."""

from __future__ import annotations

import torch
from torch import nn

from lessonplan.network.learner import forget_gradients


class OwnWay(torch.optim.SGD):
    """An optimizer that has more to forget."""

    asked = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.asked += 1
        super().zero_grad(set_to_none)


def with_gradients() -> nn.Linear:
    model = nn.Linear(3, 2)
    model(torch.ones(1, 3)).sum().backward()
    return model


def test_only_gradients_of_what_is_optimised_go() -> None:
    ours, theirs = with_gradients(), with_gradients()
    forget_gradients(torch.optim.SGD([{"params": [ours.weight]}], lr=0.1))
    torch.optim.SGD([{"params": [theirs.weight]}], lr=0.1).zero_grad()
    assert ours.weight.grad is theirs.weight.grad is None
    assert ours.bias.grad is not None
    assert theirs.bias.grad is not None


def test_an_optimizer_with_a_way_of_its_own_is_asked() -> None:
    model = with_gradients()
    optimizer = OwnWay(model.parameters(), lr=0.1)
    forget_gradients(optimizer)
    assert optimizer.asked == 1
    assert model.weight.grad is None
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    asked = []
    plain.zero_grad = lambda set_to_none=True: asked.append(set_to_none)  # type: ignore[method-assign]
    forget_gradients(plain)
    assert asked == [True]
