"""Whether adapters beside the layers and merged into their weights are the same network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.network.untouched import ADAPTER, asked, seeded

_CHANGE = 0.1  # of a layer's weights that adapters make for the trial
_APART = 0.01  # of what they change; rounding is a thousandth of this


@torch.no_grad()
def prove(
    network: nn.Module, layers: Mapping[str, Any], head: str, example: Tensor, delta: Callable[[Any], Tensor]
) -> None:
    """Try the network with adapters that do something, and with the same ones in the weights.

    They differ where a layer is used in two places, or where the network reads a layer's weights past it. What the
    head sees is compared, since a new head gives zeros. Everything is as before afterwards, bit for bit.

    Args:
        network: with adapters whose B is zero.
        layers: the adapted ones, by name.
        head: name of the module that gives the logits.
        example: ``(1, ...)`` tells the shape of an input.
        delta: what a layer's adapter adds to its weights.

    Raises:
        ConfigError: they differ.
    """
    seen: list[Tensor] = []
    hook = network.get_submodule(head).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    weights = [layer.get_base_layer().weight for layer in layers.values()]
    before = [weight.clone() for weight in weights]
    seconds = [layer.lora_B[ADAPTER].weight for layer in layers.values()]

    def ask() -> Tensor:
        seen.clear()
        torch.default_generator.manual_seed(0)  # of a network that draws
        logits = network(x)
        return seen[-1].double() if seen else torch.as_tensor(logits).double()

    try:
        with seeded(0), asked(network):
            x = torch.randn(example.shape).to(example)
            plain = ask()
            for layer, second in zip(layers.values(), seconds, strict=True):
                second.copy_(torch.randn(second.shape))
                weight = layer.get_base_layer().weight
                second *= _CHANGE * (weight.norm() or weight.new_ones(())) / delta(layer).norm()
            beside = ask()
            for weight, layer in zip(weights, layers.values(), strict=True):
                weight += delta(layer)
            for second in seconds:
                second.zero_()
            merged = ask()
    finally:
        hook.remove()
        for weight, kept in zip(weights, before, strict=True):
            weight.copy_(kept)
        for second in seconds:
            second.zero_()
    if (beside - merged).norm() > _APART * (merged - plain).norm():
        raise ConfigError(
            "tune=lora: this network is another one with its adapters merged into its weights (it uses a layer in"
            " two places, or reads a layer's weights past it): leave such layers out, targets=NAME/NAME"
        )
