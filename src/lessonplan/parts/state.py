"""What of an object has to be stored to go on later, declared by name."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from lessonplan.errors import require


class Stateful:
    """Stores and takes back the attributes that its classes declare.

    ``STATE`` of a class names what it adds to that of its bases: an attribute, stored under its name without
    leading underscores, or ``"key=attribute"``; ``"key=part.attribute"`` is one of a part's. Values may be
    primitives, tensors and collections of them, generators, objects with a ``state_dict`` of their own, and lists
    of those.

    >>> class Counter(Stateful):
    ...     STATE = ("_count",)
    ...     def __init__(self):
    ...         self._count = 3
    >>> Counter().state_dict()
    {'count': 3}
    """

    STATE: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training, as tensors and primitives."""
        return {key: _stored(getattr(owner, name)) for key, owner, name in self._declared()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave.

        Raises:
            ConfigError: the state is of something else.
        """
        for key, owner, name in self._declared():
            require(
                key in state,
                f"the state has no {key!r}, and so is not of {type(self).__name__}: go on with what stored it, or"
                " begin anew without a state",
            )
            now = getattr(owner, name)
            taken = _taken(now, state[key])
            if taken is not now:
                setattr(owner, name, taken)
        self._restored()

    def _restored(self) -> None:
        """Work out what follows from values that were taken back."""

    def _declared(self) -> Iterator[tuple[str, Any, str]]:
        """Key, owner and name of each attribute, the bases' first."""
        for cls in reversed(type(self).__mro__):
            for entry in vars(cls).get("STATE", ()):
                key, _, place = entry.rpartition("=")
                part, _, name = place.rpartition(".")
                yield key or name.lstrip("_"), getattr(self, part) if part else self, name


def _stored(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if isinstance(value, list):
        return [_stored(item) for item in value]
    return copy.deepcopy(value)


def _taken(now: Any, stored: Any) -> Any:
    """What an attribute becomes; what can go on with a state stays the same object."""
    if isinstance(now, torch.Generator):
        now.set_state(stored.cpu())
        return now
    if hasattr(now, "load_state_dict"):
        now.load_state_dict(stored)
        return now
    if isinstance(now, list) and (now or not stored) and all(hasattr(item, "load_state_dict") for item in now):
        for item, state in zip(now, stored, strict=True):
            item.load_state_dict(state)
        return now
    return copy.deepcopy(stored)
