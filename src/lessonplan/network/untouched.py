"""Looking at a network without leaving a trace in it, and random numbers that are borrowed and given back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from lessonplan.network import accelerator
from lessonplan.network.snapshot import Snapshot

Mode = Literal["eval", "train"]
ADAPTER = "lessonplan"
"""What adapters beside frozen layers are called, in the names of their parameters too."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def train_mode(model: nn.Module, *, frozen_statistics: bool = False) -> None:
    """Training mode, but for batch normalisation in frozen parts: its statistics belong to the frozen weights.

    A part is frozen where it has parameters and none of them needs a gradient; adapters in it do not count.

    Args:
        model: any module.
        frozen_statistics: all batch normalisation uses its running statistics and leaves them as they are.
    """
    model.train()
    if frozen_statistics:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return
    for part in model.modules():
        parameters = [p for name, p in part.named_parameters() if not is_adapters(name)]
        if parameters and not any(p.requires_grad for p in parameters):
            for module in part.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()


def is_adapters(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter.

    >>> is_adapters("fc.lora_A.lessonplan.weight"), is_adapters("fc.weight")
    (True, False)
    """
    return f".{ADAPTER}." in name and "lora_" in name


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and parameters that need no gradient inside, everything as before afterwards.

    Gradients with respect to inputs then cost neither the time nor the memory of parameter gradients.
    """
    needed = [p for p in model.parameters() if p.requires_grad]
    with evaluating(model):
        try:
            for p in needed:
                p.requires_grad_(False)
            yield
        finally:
            for p in needed:
                p.requires_grad_(True)


@contextmanager
def asked(model: nn.Module, mode: Mode = "eval") -> Iterator[None]:
    """Forward passes inside leave no trace: parameters, buffers, modes, gradients and random state stay.

    Args:
        model: any module; each submodule gets its own training mode back.
        mode: "eval" uses running statistics and no dropout; "train" normalises by the batch and drops, but for
            what the training around it keeps frozen.

    >>> net = nn.BatchNorm1d(2)
    >>> with asked(net, "train"):
    ...     _ = net(torch.randn(4, 2))
    >>> int(net.num_batches_tracked)
    0
    """
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    with _without_a_graph(model):
        try:
            _enter(model, mode)
            yield
        finally:
            for module, name, buffer, saved in buffers:
                buffer.copy_(saved)
                setattr(module, name, buffer)  # some modules replace theirs


@contextmanager
def followed(model: nn.Module, mode: Mode = "train") -> Iterator[None]:
    """As ``asked`` in training mode, but that buffers keep what passes inside make of them, as in training.

    Frozen parts keep theirs (``train_mode``); so do all in evaluation mode, in which nothing follows.

    >>> net = nn.BatchNorm1d(2)
    >>> with followed(net):
    ...     _ = net(torch.randn(4, 2))
    >>> int(net.num_batches_tracked)
    1
    """
    with _without_a_graph(model):
        _enter(model, mode)
        yield


def _enter(model: nn.Module, mode: Mode) -> None:
    """A network that trains is in training mode part by part already: what it keeps frozen stays frozen."""
    if mode == "eval":
        model.eval()
    elif not model.training:
        train_mode(model)


@contextmanager
def _without_a_graph(model: nn.Module) -> Iterator[None]:
    """No gradients inside; modes and random state as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    # Weights that autocast casts without a graph would stay in its cache, for a training pass to come.
    caches = torch.is_autocast_cache_enabled()
    with _borrowed(accelerators(model)), torch.no_grad():
        torch.set_autocast_cache_enabled(False)
        try:
            yield
        finally:
            torch.set_autocast_cache_enabled(caches)
            for module, training in modes:
                module.training = training


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore buffers and random state behind the block, and leave dropout out within it.

    Normalisation stays as it is in training, on the statistics of each batch: running statistics are behind
    the weights by many updates, which would count as a loss of every candidate.
    """
    snapshot = Snapshot(model, parameters=False)
    snapshot.take()
    active = [m for m in model.modules() if isinstance(m, _DropoutNd) and m.training and m.p > 0]
    for module in active:
        module.training = False
    try:
        yield
    finally:
        for module in active:
            module.training = True
        snapshot.restore()


def has_dropout(model: nn.Module) -> bool:
    """Whether a loss of the training pass differs from a measured one."""
    return any(isinstance(m, _DropoutNd) and m.training and m.p > 0 for m in model.modules())


@contextmanager
def _borrowed(devices: Sequence[torch.device]) -> Iterator[None]:
    """Give PyTorch's global generators back as they were, those of the devices too."""
    host, others = torch.get_rng_state(), [(d, accelerator.random_state(d)) for d in devices]
    try:
        yield
    finally:
        torch.set_rng_state(host)
        for device, state in others:
            accelerator.set_random_state(device, state)


@contextmanager
def seeded(seed: int, devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Seed PyTorch's global generators inside, and restore them afterwards.

    Args:
        seed: 64-bit seed.
        devices: accelerators whose generators are borrowed too.
    """
    with _borrowed(devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            accelerator.seed(device, seed)
        yield


def accelerators(model: nn.Module) -> list[torch.device]:
    """The accelerators that hold a network's parameters, whose random generators a pass may use."""
    return accelerator.accelerators_of(p.device for p in model.parameters())
