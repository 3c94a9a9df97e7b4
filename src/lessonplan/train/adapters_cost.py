"""What passes through a network with adapters cost, measured by its multiplications."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lessonplan.network.untouched import asked, is_adapters


class AdaptersCost(NamedTuple):
    """Costs of a sample in forward passes of the network without its adapters.

    Attributes:
        forward: of a forward pass, 1 or more.
        update: of a forward and a backward pass, which goes back to the first adapter, and asks for the gradients
            of the adapters' weights and of the head's alone.
    """

    forward: float
    update: float


def adapters_cost(network: nn.Module, example: Tensor) -> AdaptersCost:
    """Count the multiplications of an ``example`` ``(1, ...)``; no gradient is kept, and nothing changes.

    Args:
        network: with adapters; what needs a gradient trains.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    with asked(network):
        with FlopCounterMode(display=False) as forward:
            network(example)
        with torch.enable_grad(), FlopCounterMode(display=False) as both:
            torch.autograd.grad(network(example).sum(), trained, allow_unused=True)
    adapters = sum(
        sum(counts.values()) for name, counts in forward.get_flop_counts().items() if is_adapters(f"{name}.")
    )
    plain = (forward.get_total_flops() - adapters) or 1
    return AdaptersCost(forward.get_total_flops() / plain, both.get_total_flops() / plain)
