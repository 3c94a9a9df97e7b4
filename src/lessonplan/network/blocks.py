"""The blocks of a network: modules whose parameters are needed while they run, and at no other time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lessonplan.network.untouched import asked

SMALLEST, LARGEST = 1 / 1000, 1 / 4
"""Shares of a network's parameters: what is smaller is no block, what is larger is taken apart where it can be."""


def find_blocks(network: nn.Module, example: Tensor) -> list[nn.Module]:
    """The blocks of a network, inner ones before those that hold them; the network itself is none of them.

    A block runs once in a forward pass, and no operation outside of it takes one of its parameters (as a decoder
    does that borrows an encoder's weights). One pass of ``example`` tells, which leaves no trace.

    Args:
        network: in any mode; it is passed in evaluation mode.
        example: ``(1, ...)`` an input, where the network is.

    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> [type(block).__name__ for block in find_blocks(network, network[0].weight[:1])]
    ['Linear', 'Linear']
    """
    uses = _Uses(network)
    with ExitStack() as hooks, asked(network), uses:
        for module in network.modules():
            handles = (
                module.register_forward_pre_hook(uses.enter, prepend=True),
                module.register_forward_hook(uses.leave),
            )
            for handle in handles:
                hooks.callback(handle.remove)
        network(example)
    total = _size(network)
    return _cut(network, SMALLEST * total, LARGEST * total, uses.alone)


def _cut(
    module: nn.Module, smallest: float, largest: float, alone: Callable[[nn.Module], bool]
) -> list[nn.Module]:
    """The blocks below a module, and what holds the rest of a module that is too large."""
    found: list[nn.Module] = []
    for child in module.children():
        size = _size(child)
        if size < smallest:
            continue
        whole = alone(child)
        inner = _cut(child, smallest, largest, alone) if size > largest or not whole else []
        found += inner
        left = {id(p) for p in child.parameters()} - {id(p) for block in inner for p in block.parameters()}
        if whole and sum(p.numel() for p in child.parameters() if id(p) in left) >= smallest:
            found.append(child)
    return found


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class _Uses(TorchFunctionMode):
    """Listens to a forward pass: which modules run, and inside of which of them each parameter is used."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._known = {id(p) for p in network.parameters()}
        self._open: list[int] = []
        self._runs: dict[int, int] = {}
        self._inside: dict[int, set[int]] = {}

    def enter(self, module: nn.Module, inputs: Any) -> None:
        """A module begins to run."""
        self._open.append(id(module))
        self._runs[id(module)] = self._runs.get(id(module), 0) + 1

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """The module has run."""
        self._open.remove(id(module))

    def alone(self, module: nn.Module) -> bool:
        """Whether a module runs once, and nothing outside of it uses its parameters."""
        inside = (self._inside.get(id(p)) for p in module.parameters())
        return self._runs.get(id(module)) == 1 and all(of is None or id(module) in of for of in inside)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Take note of the parameters among an operation's arguments."""
        if getattr(func, "__name__", "") != "__get__":  # asking for a shape or a type uses no values
            for number in self._among([*args, *(kwargs or {}).values()]):
                used = self._inside.setdefault(number, set(self._open))
                used &= set(self._open)
        return func(*args, **(kwargs or {}))

    def _among(self, arguments: Iterable[Any]) -> Iterable[int]:
        for argument in arguments:
            if isinstance(argument, Tensor) and id(argument) in self._known:
                yield id(argument)
            elif isinstance(argument, list | tuple):
                yield from self._among(argument)


def keeps_weights_twice(network: nn.Module) -> str | None:
    """The name of a module that holds its parameters beside PyTorch's own list of them (RNNs), or None."""
    return next((name for name, module in network.named_modules() if isinstance(module, nn.RNNBase)), None)
