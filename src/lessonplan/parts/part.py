"""What a plan is made of: parts with a name, options, an identity, a generator and a state."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from lessonplan.parts.identity import describe_function, describe_value, is_installed
from lessonplan.parts.own import load_own, own_of
from lessonplan.parts.state import Stateful

if TYPE_CHECKING:
    from lessonplan.batch import Samples


@dataclass(frozen=True)
class Occasion:
    """What a part is told of the run it is for.

    Attributes:
        seed: the run's.
        data: the training samples.
        validation: the validation samples, or None.
        num_classes: number of classes.
        final_updates: whether a batch is trained on as it is handed out (no mix follows), by a loop that heeds
            ``Batch.step``, so that a look-ahead may keep its winner's update.
    """

    seed: int
    data: Samples
    validation: Samples | None = None
    num_classes: int = 0
    final_updates: bool = False


@dataclass(eq=False, kw_only=True)
class Part(Stateful):
    """A mix, an order, a filter or a selector: a dataclass whose fields are its options.

    A trainer tells every part the same: ``setup(occasion)`` before the first batch, ``attach`` the network,
    ``advance(progress)`` as the run goes on; it asks ``describe()`` for the log and ``state_dict()`` for
    checkpoints.
    """

    name: ClassVar[str] = ""
    _lent: ClassVar[tuple[str, ...]] = ()
    """Attributes that belong to the loop, and are not copied or sent to other processes."""

    def options(self) -> dict[str, Any]:
        """The options by name, as they are given."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init and field.repr}

    def given_options(self) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON can hold them."""
        defaults = {field.name: field.default for field in fields(self)}
        chosen = {name: value for name, value in self.options().items() if value != defaults[name]}
        return {name: describe_value(value) for name, value in chosen.items()}

    def config(self) -> dict[str, Any]:
        """The identity as plain data: the name and the options that differ from their defaults."""
        return {**self.named(), **self.given_options()}

    def named(self) -> dict[str, str]:
        """The name, and for classes of the user's own what tells them apart: their code, or that of their file."""
        own = own_of(type(self))
        if own is not None:
            return {"name": self.name or own.address, "class": own.identity}
        if is_installed(type(self).__module__):
            return {"name": self.name}
        return {"name": self.name, "class": describe_function(type(self))}

    def __str__(self) -> str:
        """The text that makes it, without the options that have their defaults."""
        own = own_of(type(self))
        name = self.name if own is None else own.address
        words = ",".join(f"{key}={option_text(value)}" for key, value in self._shown().items())
        return f"{name}:{words}" if words else name

    def _shown(self) -> dict[str, Any]:
        """The options that the text says."""
        return self.given_options()

    # -- copies and other processes ------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, **dict.fromkeys(self._lent)}
        if "generator" in state:
            # Not as a tensor: workers that are spawned would find its memory given back before they begin.
            state["generator"] = self.__dict__["generator"].get_state().numpy()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "generator" in state:
            self.generator = torch.Generator()
            stored = state["generator"]
            self.generator.set_state(stored if isinstance(stored, torch.Tensor) else torch.from_numpy(stored))

    def __reduce_ex__(self, protocol: Any) -> Any:
        own = own_of(type(self))
        if own is None:
            return super().__reduce_ex__(protocol)
        # Its module may have no name that another process could import.
        return _blank, (own.address,), self.__getstate__()


def _blank(address: str) -> Any:
    cls = load_own(address).target
    return cls.__new__(cls)


def option_text(value: Any) -> str:
    """An option's value as it is written: lists with slashes.

    >>> option_text([0.5, 0.25]), option_text(3)
    ('0.5/0.25', '3')
    """
    if isinstance(value, list):
        return "/".join(item if isinstance(item, str) else f"{item:g}" for item in value)
    return str(value)
