"""Everything that an update changes, saved and put back bit for bit."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, MutableMapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lessonplan.errors import ConfigError
from lessonplan.network.accelerator import accelerators_of, random_state, set_random_state

_PRIMITIVE = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout)


@cache
def _own_attributes() -> frozenset[str]:
    """What every optimizer of PyTorch has; the first to be made imports its compiler, which takes a second."""
    return frozenset(vars(torch.optim.SGD([torch.zeros(1)])))


class _Kept:
    """A tensor and where its value is kept; the tensor itself comes back, not a copy that others do not know."""

    def __init__(self, tensor: Tensor, place: Tensor) -> None:
        self.tensor, self.place = tensor, place


class Snapshot:
    """What trains, saved and restored: parameters, buffers, gradients, optimizer, gradient scaler, random state.

    Tensors are restored in place (``torch._foreach_copy_``), so that everybody who holds them sees the old values;
    what a first step creates (momentum, moments) is gone again afterwards. One ``take`` serves any number of
    ``restore``. Memory for the copies is kept from one ``take`` to the next. The random generators of Python,
    NumPy and PyTorch go with them, those of the accelerators that hold the model's tensors included.

    ``optimizer.load_state_dict`` cannot do this: it takes over the tensors it is given, so that the next step
    writes into the saved copy.

    Args:
        model: its parameters and buffers (also those that its ``state_dict`` leaves out) are saved.
        optimizer: its state and groups are saved; state made by a later step counts as absent.
        scaler: gradient scaler.
        parameters: whether parameters and their gradients are saved; without, what a forward pass changes is.

    Raises:
        ConfigError: the optimizer keeps something that is no tensor, primitive or collection of these (a
            ``torch.optim.Optimizer`` inside another one, say).

    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> snapshot = Snapshot(model, optimizer)
    >>> snapshot.take()
    >>> before = model.weight.clone()
    >>> model(torch.ones(1, 2)).sum().backward(); optimizer.step()
    >>> snapshot.restore()
    >>> torch.equal(model.weight, before), len(optimizer.state)
    (True, 0)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        scaler: torch.amp.GradScaler | None = None,
        *,
        parameters: bool = True,
    ) -> None:
        self.model, self.optimizer, self.scaler = model, optimizer, scaler
        self._with_parameters = parameters
        tensors = [*model.parameters(), *model.buffers()]
        self._accelerators = accelerators_of(tensor.device for tensor in tensors)
        self._places: dict[tuple[Any, ...], Tensor] = {}
        self._taken: tuple[Any, ...] | None = None
        if optimizer is not None:
            self._optimizer_state()  # an optimizer that cannot be saved is refused before anything is trained

    @torch.no_grad()
    def take(self) -> None:
        """Save everything as it is now; what was saved before is forgotten."""
        optimizer = self._optimizer_state() if self.optimizer is not None else None
        scaler = self.scaler.state_dict() if self.scaler is not None else None
        module = self._module_state()
        kept = [*tensors_in(module), *tensors_in(optimizer)]
        _copy([k.place for k in kept], [k.tensor for k in kept])
        self._taken = (module, optimizer, scaler, self._random_state(), kept)

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back as it was at the last ``take``.

        Raises:
            ConfigError: nothing was taken.
        """
        if self._taken is None:
            raise ConfigError("this snapshot is empty: call take() before restore()")
        module, optimizer, scaler, random_state, kept = self._taken
        _copy([k.tensor for k in kept], [k.place for k in kept])
        self._restore_module(module)
        if self.optimizer is not None:
            self._restore_optimizer(optimizer)
        if self.scaler is not None and scaler:
            self.scaler.load_state_dict(scaler)
        # Inside a region of autocast the cache still holds the casted weights of the undone step.
        torch.clear_autocast_cache()
        self._restore_random(random_state)

    # -- the network ---------------------------------------------------------------------------------

    def _module_state(self) -> list[tuple[nn.Module, dict[str, Any], dict[str, Any], dict[str, Any]]]:
        saved = []
        for number, module in enumerate(self.model.modules()):
            keep = self._keeper(number)
            own = module._parameters if self._with_parameters else {}
            parameters = {name: keep(value, "p", name) for name, value in own.items()}
            gradients = {name: keep(value.grad, "g", name) for name, value in own.items() if value is not None}
            buffers = {name: keep(value, "b", name) for name, value in module._buffers.items()}
            saved.append((module, parameters, buffers, gradients))
        return saved

    @staticmethod
    def _restore_module(saved: list[tuple[nn.Module, dict[str, Any], dict[str, Any], dict[str, Any]]]) -> None:
        for module, parameters, buffers, gradients in saved:
            for name, value in _back(parameters).items():
                module._parameters[name] = value
            for name, value in _back(buffers).items():
                module._buffers[name] = value
            for name, value in _back(gradients).items():
                parameter = module._parameters[name]
                assert parameter is not None
                parameter.grad = value

    # -- the optimizer -------------------------------------------------------------------------------

    def _optimizer_state(self) -> tuple[dict[Any, Any], list[dict[str, Any]], dict[str, Any]]:
        assert self.optimizer is not None
        keep = self._keeper("optimizer")
        numbers = {
            id(parameter): number
            for number, parameter in enumerate(p for group in self.optimizer.param_groups for p in group["params"])
        }
        state = {
            key: keep(value, "state", numbers.get(id(key), key))  # some keep more than parameters' states
            for key, value in self.optimizer.state.items()
        }
        groups = [
            {name: keep(value, "group", number, name) for name, value in group.items() if name != "params"}
            for number, group in enumerate(self.optimizer.param_groups)
        ]
        own = {
            name: keep(value, "attribute", name)
            for name, value in vars(self.optimizer).items()
            if name not in _own_attributes() and not callable(value)
        }
        return state, groups, own

    def _restore_optimizer(self, saved: tuple[dict[Any, Any], list[dict[str, Any]], dict[str, Any]]) -> None:
        assert self.optimizer is not None
        state, groups, own = saved
        _refill(self.optimizer.state, _back(state))
        for group, values in zip(self.optimizer.param_groups, groups, strict=True):
            _refill(group, {"params": group["params"], **_back(values)})
        known = {*_own_attributes(), *own}
        for name in [n for n, v in vars(self.optimizer).items() if n not in known and not callable(v)]:
            delattr(self.optimizer, name)
        vars(self.optimizer).update(_back(own))

    # -- random state --------------------------------------------------------------------------------

    def _random_state(self) -> tuple[Any, ...]:
        accelerators = [(device, random_state(device)) for device in self._accelerators]
        return torch.get_rng_state(), accelerators, random.getstate(), np.random.get_state()  # noqa: NPY002

    @staticmethod
    def _restore_random(saved: tuple[Any, ...]) -> None:
        cpu, accelerators, python, numpy_state = saved
        torch.set_rng_state(cpu)
        for device, state in accelerators:
            set_random_state(device, state)
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002

    # -- keeping -------------------------------------------------------------------------------------

    def _keeper(self, owner: int | str) -> Callable[..., Any]:
        """A function that turns tensors within a value into kept ones; collections are rebuilt around them."""

        def keep(value: Any, *path: Any) -> Any:
            if isinstance(value, Tensor):
                return _Kept(value, self._place((owner, *path), value))
            if isinstance(value, MutableMapping):
                return _Rebuilt(value, {key: keep(item, *path, key) for key, item in value.items()})
            if isinstance(value, (list, deque)):
                return _Rebuilt(value, [keep(item, *path, number) for number, item in enumerate(value)])
            if isinstance(value, tuple):
                return tuple(keep(item, *path, number) for number, item in enumerate(value))
            if isinstance(value, _PRIMITIVE):
                return value
            name = type(self.optimizer).__name__
            where = ".".join(str(part) for part in path)
            raise ConfigError(
                f"the state of {name} cannot be restored ({where} holds a {type(value).__name__}): look-ahead"
                " needs an optimizer whose state is made of tensors and numbers"
            )

        return keep

    def _place(self, path: tuple[Any, ...], tensor: Tensor) -> Tensor:
        place = self._places.get(path)
        if place is None or _kind(place) != _kind(tensor):
            place = self._places[path] = torch.empty_like(tensor)
        return place


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


class _Rebuilt:
    """A collection and what was in it; it is filled again in place."""

    def __init__(self, original: Any, items: Any) -> None:
        self.original, self.items = original, items


def _back(value: Any) -> Any:
    """Kept things as they were; the tensors' values are restored separately."""
    if isinstance(value, _Kept):
        return value.tensor
    if isinstance(value, tuple):
        return tuple(_back(item) for item in value)
    if isinstance(value, dict):
        return {key: _back(item) for key, item in value.items()}
    if isinstance(value, _Rebuilt):
        _refill(value.original, _back(value.items) if isinstance(value.items, dict) else map(_back, value.items))
        return value.original
    return value


def _refill(collection: Any, content: Any) -> None:
    content = dict(content) if isinstance(content, dict) else list(content)
    collection.clear()
    (collection.update if isinstance(content, dict) else collection.extend)(content)


def tensors_in(value: Any) -> list[_Kept]:
    """All kept tensors within nested collections."""
    if isinstance(value, _Kept):
        return [value]
    if isinstance(value, _Rebuilt):
        return tensors_in(value.items)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [kept for item in value for kept in tensors_in(item)]


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, source)
