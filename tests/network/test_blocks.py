"""Blocks are modules that run by themselves: nothing outside of them touches their parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lessonplan.models import build_model
from lessonplan.network.blocks import find_blocks, keeps_weights_twice


def _names(network: nn.Module, example: Tensor) -> list[str]:
    names = {id(module): name for name, module in network.named_modules()}
    return [names[id(block)] for block in find_blocks(network, example)]


class Written(nn.Module):
    """Four layers of the same size, used as ``way`` says."""

    def __init__(self, way: Callable[[Written, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.c, self.d = nn.Sequential(nn.Linear(8, 8)), nn.ModuleList([nn.Linear(8, 8)])
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 8)`` to ``(N, 8)``."""
        return self.way(self, x)


def plain(net: Written, x: Tensor) -> Tensor:
    """Each module once."""
    return net.d[0](net.c(net.b(net.a(x))))


def borrowed(net: Written, x: Tensor) -> Tensor:
    """The weight of one module in an operation of another."""
    return torch.nn.functional.linear(plain(net, x), net.b.weight)


def in_a_list(net: Written, x: Tensor) -> Tensor:
    """A parameter inside of a list of arguments."""
    return plain(net, x) + torch.cat([net.a.bias, net.b.bias]).sum()


def by_name(net: Written, x: Tensor) -> Tensor:
    """A parameter that is given by its name."""
    return plain(net, x) + torch.nn.functional.linear(x, weight=net.a.weight)


def around(net: Written, x: Tensor) -> Tensor:
    """A layer inside of a module that does not run itself."""
    return net.d[0](net.c[0](net.b(net.a(x))))


def twice(net: Written, x: Tensor) -> Tensor:
    """A module that runs twice."""
    return plain(net, net.a(x))


def asked_for_a_shape(net: Written, x: Tensor) -> Tensor:
    """A question that takes no values."""
    return plain(net, x.to(net.a.weight.dtype)) / net.b.weight.shape[0]


@pytest.mark.parametrize(
    ("way", "blocks"),
    [
        (plain, ["a", "b", "c", "d.0"]),
        (borrowed, ["a", "c", "d.0"]),
        (in_a_list, ["c", "d.0"]),
        (by_name, ["b", "c", "d.0"]),
        (around, ["a", "b", "c.0", "d.0"]),
        (twice, ["b", "c", "d.0"]),
        (asked_for_a_shape, ["a", "b", "c", "d.0"]),
    ],
)
def test_what_counts_as_a_block(way: Callable[[Written, Tensor], Tensor], blocks: list[str]) -> None:
    assert _names(Written(way), torch.zeros(1, 8)) == blocks


def test_shared_weights() -> None:
    net = Written(plain)
    net.d[0].weight = net.a.weight
    assert _names(net, torch.zeros(1, 8)) == ["b", "c.0"]  # more than a quarter of what is there


def test_large_parts_are_taken_apart_and_small_ones_are_none() -> None:
    inner = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 50), nn.Linear(50, 50))
    net = nn.Sequential(nn.Linear(1, 1), inner, nn.Sequential(nn.Linear(50, 20), nn.ReLU()), nn.Linear(20, 10))
    assert _names(nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 1)), *net[:1]), torch.zeros(1, 1)) == ["2"]
    assert _names(nn.Sequential(inner, *net[2:]), torch.zeros(1, 50)) == ["0.0", "0.1", "0.2", "1", "2"]
    tail = nn.Sequential(nn.Linear(50, 200), nn.Linear(200, 50), nn.Linear(50, 1))  # the last: 1 in 400
    assert _names(tail, torch.zeros(1, 50)) == ["0", "1", "2"]
    tail[2] = nn.LayerNorm(50, bias=False)
    tail[2].weight = nn.Parameter(torch.ones(50))
    wide = nn.Sequential(nn.Linear(50, 600), nn.Linear(600, 50), tail[2])  # 50 of 60,700
    assert _names(wide, torch.zeros(1, 50)) == ["0", "1"]


class Held(nn.Module):
    """A large weight of its own, beside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.layer = nn.Parameter(torch.zeros(40, 40)), nn.Linear(40, 40)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 40)`` to ``(N, 40)``."""
        return self.layer(x @ self.weight)


def test_what_is_left_of_a_part_is_its_own() -> None:
    assert _names(nn.Sequential(Held(), nn.Linear(40, 40)), torch.zeros(1, 40)) == ["0.layer", "0", "1"]


@pytest.mark.parametrize("model", ["wrn-16-1", "densenet-bc-100-12", "fcnet-8"])
def test_no_trace_and_nearly_all_of_a_network(model: str) -> None:
    net = build_model(model, shape=(3, 16, 16), num_classes=5, seed=0).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    blocks = find_blocks(net, torch.zeros(1, 3, 16, 16))
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    total = sum(p.numel() for p in net.parameters())
    held = {id(p): p.numel() for block in blocks for p in block.parameters()}
    assert sum(held.values()) > 0.98 * total


def test_layers_that_hold_weights_twice() -> None:
    assert keeps_weights_twice(nn.Sequential(nn.Linear(2, 2), nn.GRU(2, 2))) == "1"
    assert keeps_weights_twice(nn.LSTM(2, 2)) == ""
    assert keeps_weights_twice(nn.Linear(2, 2)) is None
