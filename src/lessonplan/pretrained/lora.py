"""Low-rank adapters beside frozen layers, which end as a part of the layers' own weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, first_line, unknown
from lessonplan.extras import refuse_other_versions
from lessonplan.models.beside_torchvision import import_beside_torchvision
from lessonplan.network.untouched import ADAPTER, is_adapters, seeded
from lessonplan.pretrained.adapters_proof import prove
from lessonplan.text_options import read_pairs, read_values


@dataclass(frozen=True)
class Lora:
    """Beside a layer with the weights W a product of two smaller ones, ``W + alpha / rank * B @ A``.

    A is drawn, B begins at zeros, so that the network begins as it was (Hu et al. 2021, LoRA, arXiv:2106.09685).
    A convolution's A has its kernel and its stride, its B is 1 x 1.

    Args:
        rank: of the product, 1 or more.
        alpha: its weight is ``alpha / rank``; above 0; None: twice the rank.
        dropout: share of a layer's inputs that its adapter does not see while training, in [0, 1).
        targets: names of layers, or how their names end (``qkv``, ``blocks.0.attn.qkv``); None: all that can be
            adapted.

    Raises:
        ConfigError: a number is out of range.

    >>> Lora.parse("rank=4,targets=qkv/proj"), str(Lora())
    (Lora(rank=4, alpha=None, dropout=0.0, targets=('qkv', 'proj')), 'rank=8,alpha=16')
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 < self.weight < math.inf or not 0 <= self.dropout < 1:
            raise ConfigError(f"tune=lora:{self}: give rank=1 or more, alpha above 0, and dropout in [0, 1)")
        if self.targets is not None and not all(self.targets):
            raise ConfigError(
                f"tune=lora:{self}: give the targets as names with slashes between, targets=qkv/proj"
            )

    @classmethod
    def parse(cls, options: str) -> Lora:
        """Read ``"rank=8,alpha=16"``; a number that stands first is the rank."""
        hints = {"rank": int, "alpha": float, "dropout": float, "targets": Sequence[str]}
        return cls(**read_values("lora", read_pairs("lora", options, first="rank"), hints))

    @property
    def weight(self) -> float:
        """``alpha``, that of the default included."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    def __str__(self) -> str:
        dropout = f",dropout={self.dropout:g}" if self.dropout else ""
        targets = f",targets={'/'.join(self.targets)}" if self.targets is not None else ""
        return f"rank={self.rank},alpha={self.weight:g}{dropout}{targets}"


def adapt(network: nn.Module, lora: Lora, head: str, *, seed: int, example: Tensor) -> list[str]:
    """Put adapters beside a network's layers; needs ``pip install lessonplan[lora]``.

    Linear layers and ungrouped, undilated convolutions with zeros around them can have one, but those of the head;
    and only of PyTorch's own classes, since others may make something else of their weights.

    Args:
        network: changed in place; names of an adapted layer's weights change until ``merge``.
        lora: rank, weight, dropout and layers.
        head: name of the module that gives the logits.
        seed: of the adapters; the global generators are left as they were.
        example: ``(1, ...)`` one input, by whose shape it is tried whether ``merge`` makes the same network.

    Returns:
        names of the adapted layers.

    Raises:
        ConfigError: peft is missing, no layer is meant, the network has adapters already, or merged they would be
            something else.
    """
    peft = _import_peft()
    if any(hasattr(module, "lora_A") for module in network.modules()):
        raise ConfigError(
            "tune=lora: the network has adapters of peft already: merge them into its weights before"
        )
    names = _layers(network, lora.targets, head)
    trains = {id(p): p.requires_grad for p in network.parameters()}
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.weight,
        lora_dropout=lora.dropout,
        target_modules=_exactly([f"network.{name}" for name in names]),
    )
    with seeded(seed):
        # Inside a shell peft leaves no attributes on the network, and asks it for none.
        peft.inject_adapter_in_model(config, nn.ModuleDict({"network": network}), ADAPTER)
    for parameter in network.parameters():  # which ones train is not peft's to say
        parameter.requires_grad_(trains.get(id(parameter), True))
    try:
        prove(network, adapted_layers(network), head, example, _delta)
    except BaseException:
        merge(network)
        raise
    return names


@torch.no_grad()
def merge(network: nn.Module) -> None:
    """Make adapters a part of their layers' weights: the network is a plain one with its own names again.

    Args:
        network: changed in place; without adapters of ours it stays as it is.
    """
    for name, layer in adapted_layers(network).items():
        base = layer.get_base_layer()
        base.weight += _delta(layer)
        base.train(layer.training)
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, base)


def adapted_layers(network: nn.Module) -> dict[str, Any]:
    """The layers with an adapter of ours, by name."""
    return {name: m for name, m in network.named_modules() if ADAPTER in getattr(m, "lora_A", ())}


def adapter_parameters(network: nn.Module) -> list[nn.Parameter]:
    """A and B of every adapted layer."""
    return [p for name, p in network.named_parameters() if is_adapters(name)]


def _delta(layer: Any) -> Tensor:
    """What a layer's adapter adds to its weights."""
    delta: Tensor = layer.get_delta_weight(ADAPTER)
    return delta


def _layers(network: nn.Module, targets: tuple[str, ...] | None, head: str) -> list[str]:
    """Names of the layers that are meant."""
    modules = dict(network.named_modules())
    able = [name for name, m in modules.items() if _can(m) and not f"{name}.".startswith(f"{head}.")]
    if not able:
        raise ConfigError(
            "tune=lora: the network has no layer before its head that can be adapted (linear, or a convolution"
            " without groups and dilation): give another tune, norm or all"
        )
    if targets is None:
        return able
    found: set[str] = set()
    for target in targets:
        meant = _ending(able, target)
        if not meant and _ending(modules, target):
            raise ConfigError(
                f"targets={target} of tune=lora is no linear layer, and no convolution without groups and"
                f" dilation, before the head: give one of {_some(able)}"
            )
        if not meant:
            raise unknown("target of lora", target, {name.rpartition(".")[2] for name in able})
        found.update(meant)
    return [name for name in able if name in found]


def _can(module: nn.Module) -> bool:
    if type(module) is nn.Linear:
        return True
    # peft's A has neither groups nor dilation nor another padding.
    return (
        type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        and isinstance(module, nn.modules.conv._ConvNd)
        and (module.groups, module.padding_mode, {*module.dilation}) == (1, "zeros", {1})
    )


def _ending(names: Any, target: str) -> list[str]:
    return [name for name in names if name == target or name.endswith(f".{target}")]


def _some(names: Sequence[str]) -> str:
    ends = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    return ", ".join(ends[:8]) + (", ..." if len(ends) > 8 else "")


def _exactly(names: Sequence[str]) -> str:
    """A pattern for peft, which takes a list of names as endings: the head ``fc`` would be ``block.fc`` too."""
    return "|".join(name.replace(".", r"\.") for name in names)


def _import_peft() -> Any:
    refuse_other_versions("lora")
    with suppress(ImportError, RuntimeError, OSError):  # peft needs none, but transformers, where it is there
        import_beside_torchvision("torchvision")
    try:
        import peft
    except ImportError as error:
        if error.name in (None, "peft"):
            raise ConfigError("tune=lora needs peft: pip install 'lessonplan[lora]'") from error
        raise _broken(error) from error
    except (RuntimeError, OSError) as error:
        raise _broken(error) from error
    return peft


def _broken(error: Exception) -> ConfigError:
    reason = first_line(error)
    return ConfigError(f"peft is installed but cannot be imported ({reason}): install what is missing")
