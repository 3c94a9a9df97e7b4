"""Networks of the user's own that take images of another number of channels than there are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from lessonplan.errors import ConfigError, first_line
from lessonplan.network.untouched import asked

_GREY, _COLOUR = 1, 3


def suit_channels(network: nn.Module, shape: tuple[int, ...]) -> str:
    """Let a network for colours take grey images, or the other way round, by its first convolution.

    For grey images its weights are summed over the colours, which gives what the images give when they are shown
    in each of them; for colours the weights of grey images are shared out, which shows it their mean. A network
    that takes the images as they are (it may spread the channels itself) is left as it is.

    Args:
        network: its first convolution is changed in place.
        shape: of one input; of anything but images nothing is changed.

    Returns:
        What was changed, in words; nothing if nothing was.

    Raises:
        ConfigError: it takes the images neither before nor afterwards.
    """
    found = next(((name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d)), None)
    if found is None or len(shape) != 3 or {shape[0], found[1].in_channels} != {_GREY, _COLOUR}:
        return ""
    name, first = found
    old = first.weight
    unready = any(p.is_meta or isinstance(p, nn.UninitializedParameter) for p in network.parameters())
    if unready or (reason := _refusal(network, shape)) is None:
        return ""
    if is_parametrized(first, "weight"):
        raise ConfigError(
            f"{type(network).__name__} cannot take images of shape {shape} ({first_line(reason)}), and the weights"
            f" of {name} are computed from others: give a network whose first layer has {shape[0]} channels"
        )
    channels = first.in_channels
    first.weight = nn.Parameter(to_channels(old.detach(), shape[0]), requires_grad=old.requires_grad)
    first.in_channels = shape[0]
    if _refusal(network, shape) is not None:
        first.weight, first.in_channels = old, channels
        raise ConfigError(
            f"{type(network).__name__} cannot take images of shape {shape} ({first_line(reason)}): {name} has"
            f" {channels} channels, and the network does not go without; spread or average them in a module around"
            " it"
        )
    return f"{name} from {channels} to {shape[0]} channels"


def to_channels(weight: Tensor, channels: int) -> Tensor:
    """The weights ``(O, C, H, W)`` of a first layer for images of another number of channels.

    Their sum over the channels stays: what is the same in all of them gives what it gave.
    """
    summed = weight.float().sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
    return summed.to(weight.dtype).contiguous()


def _refusal(network: nn.Module, shape: tuple[int, ...]) -> Exception | None:
    """What a network raises at images of zeros; None where it takes them."""
    weights = next(network.parameters())
    try:
        with asked(network):
            network(torch.zeros(2, *shape, device=weights.device, dtype=weights.dtype))
    except Exception as error:  # whatever a network of the user's own raises
        return error
    return None
