"""The stages of a network from its input to its head, told by how it is built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from lessonplan.network.untouched import asked

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)
_CONTAINERS = (nn.Sequential, nn.ModuleList)


def stages(network: nn.Module, head: str, example: Tensor | None = None) -> list[list[nn.Parameter]]:
    """The parameters of a network's stages from its input to its head; the head is the last one.

    A stage is a module with parameters that is no mere container (``Sequential``, ``ModuleList``) of others, with
    the normalisation that follows it. A module that holds most of the network, and has such a container inside, is
    one as well (the backbone of a classifier of transformers, its encoder). Parameters that belong to no module of
    this kind (position embeddings) are the first stage's.

    Args:
        network: any module.
        head: name of the module that gives the logits.
        example: ``(1, ...)`` one input, by which the stages are put into the order in which they run; None leaves
            them in the order in which they were written down.
    """
    head_parameters = list(network.get_submodule(head).parameters())
    taken = {id(p) for p in head_parameters}
    modules = list(_stage_modules(network, taken))
    if example is not None:
        modules = _as_they_run(network, modules, example)
    found: list[list[nn.Parameter]] = []
    for module in modules:
        own = [p for p in module.parameters() if id(p) not in taken]
        taken |= {id(p) for p in own}
        if own and found and {id(p) for p in own} <= _of_norms(module):
            found[-1] += own
        elif own:
            found.append(own)
    loose = [p for p in network.parameters() if id(p) not in taken]
    if loose:
        found[:1] = [loose + (found[0] if found else [])]
    return [*found, head_parameters]


def _of_norms(module: nn.Module) -> set[int]:
    """The parameters of a module's normalisations, by identity."""
    return {id(p) for part in module.modules() if isinstance(part, NORMS) for p in part.parameters(recurse=False)}


def _stage_modules(network: nn.Module, head: set[int]) -> Iterator[nn.Module]:
    """The stages in the order in which they were written down; ``head`` are its parameters, by identity."""
    children = list(network.children())
    while len(children) == 1:  # a wrapper around the network itself
        children = list(children[0].children())
    sizes = [sum(p.numel() for p in child.parameters() if id(p) not in head) for child in children]
    kinds = [type(child) for child, size in zip(children, sizes, strict=True) if size]
    for child, size in zip(children, sizes, strict=True):
        if isinstance(child, _CONTAINERS):
            yield from _inside(child)
        elif 2 * size > sum(sizes) and kinds.count(type(child)) == 1 and _has_chain(child):
            yield from _stage_modules(child, head)
        else:
            yield child


def _inside(container: nn.Module) -> Iterator[nn.Module]:
    for child in container.children():
        if isinstance(child, _CONTAINERS):
            yield from _inside(child)
        else:
            yield child


def _has_chain(module: nn.Module) -> bool:
    """Whether a list of layers is inside."""
    return any(
        sum(any(True for _ in child.parameters()) for child in part.children())
        >= (2 if kind is nn.Sequential else 1)
        for part in module.modules()
        for kind in _CONTAINERS
        if isinstance(part, kind)
    )


def _as_they_run(network: nn.Module, modules: list[nn.Module], example: Tensor) -> list[nn.Module]:
    """Modules by when a forward pass comes to a part of them; one that it skips stays behind its neighbour."""
    first: dict[nn.Module, int] = {}
    with ExitStack() as hooks, asked(network):
        for module in modules:

            def note(*_: Any, of: nn.Module = module) -> None:
                first.setdefault(of, len(first))

            for part in module.modules():
                hooks.callback(part.register_forward_pre_hook(note).remove)
        network(example)
    times: list[int] = []
    for module in modules:
        times.append(first.get(module, times[-1] if times else -1))
    return [modules[at] for at in sorted(range(len(modules)), key=times.__getitem__)]
