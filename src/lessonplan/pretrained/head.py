"""Where a network decides: its last layer, which is new for new classes."""

from __future__ import annotations

import torch
from torch import nn

from lessonplan.errors import ConfigError

_NEAR_THE_END = 3  # a normalisation or a scale may come behind the last linear layer, but no further stage


def find_head(network: nn.Module, name: str | None = None, outputs: int | None = None) -> str:
    """The name of the module that gives the logits.

    Args:
        network: of timm or transformers, which know, or any other: its last linear layer.
        name: of the module; "" is the network itself; None finds out.
        outputs: how many numbers the module that is named must give, where that is known.

    Raises:
        ConfigError: there is no such module, or nothing that looks like a head.
    """
    if name == "":
        return name
    modules: dict[str, nn.Module] = dict(network.named_modules())
    names: list[str] = [known for known, module in modules.items() if known and len(list(module.parameters()))]
    if name is not None:
        if name not in names:
            raise ConfigError(f"head={name!r}: the network has no such module: its last ones are {_last(names)}")
        gives = _gives(modules[name])
        if outputs is not None and gives not in (outputs, None):
            raise ConfigError(
                f"head={name!r} gives {gives} numbers and there are {outputs} classes: name the module that gives"
                f" the logits; the last ones are {_last(names)}"
            )
        return name
    ask = getattr(network, "get_classifier", None)
    told = ask() if callable(ask) else None
    for known in names:
        if modules[known] is told:
            return known
    linear = [known for known in names if isinstance(modules[known], nn.Linear)]
    if not linear or names.index(linear[-1]) < len(names) - _NEAR_THE_END:
        raise ConfigError(
            "no head was recognised in the network: give head=NAME, the module that gives the logits; its last"
            f" ones are {_last(names)}"
        )
    return linear[-1]


def _gives(module: nn.Module) -> int | None:
    """How many numbers a module's last linear layer gives, or None where it has none."""
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        return None
    return layers[-1].out_features if isinstance(layers[-1], nn.Linear) else layers[-1].out_channels


def last_parameters(network: nn.Module, head: str) -> list[tuple[str, nn.Parameter]]:
    """The parameters of a head's last linear layer, which have a row for each class, by name; none without one."""
    inside = network.get_submodule(head).named_modules(prefix=head)
    layers = [(name, m) for name, m in inside if isinstance(m, nn.Linear | nn.Conv2d)]
    return list(layers[-1][1].named_parameters(prefix=layers[-1][0])) if layers else []


@torch.no_grad()
def begin_head(network: nn.Module, head: str) -> None:
    """Set a new head to zeros, so that it disturbs nothing behind it before it has learnt.

    Random logits would send large gradients into weights that are already good (Kolesnikov et al. 2020, Big
    Transfer, begin at zeros for that; timm draws the head of an EfficientNet uniformly within ``classes ** -.5``).

    Args:
        network: changed in place.
        head: name of the module; where it has several layers, its last linear one is meant.
    """
    for _, parameter in last_parameters(network, head):
        parameter.zero_()


def _last(names: list[str]) -> str:
    return ", ".join(names[-4:]) or "none"
