"""Where a run stands: parameters and what the optimizer remembers, of one run or of many stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class State:
    """One run, or K runs whose tensors have a leading dimension K.

    Attributes:
        params: trained parameters by name.
        slots: what the optimizer remembers of each parameter, for example ``{"momentum": {...}}``; empty before
            the first update.
        steps: updates since the optimizer started.
    """

    params: Tensors
    slots: dict[str, Tensors] = field(default_factory=dict)
    steps: int = 0

    def __len__(self) -> int:
        """K, of stacked runs."""
        return len(next(iter(self.params.values())))

    def rows(self, index: Tensor | slice | int) -> State:
        """Some of the stacked runs; one of them for an integer."""
        return State(
            {name: value[index] for name, value in self.params.items()},
            {slot: {name: value[index] for name, value in kept.items()} for slot, kept in self.slots.items()},
            self.steps,
        )

    def restarted(self) -> State:
        """The same parameters with an optimizer that remembers nothing."""
        return State(self.params)

    def bytes(self) -> int:
        """Memory of all tensors."""
        kept = [self.params, *self.slots.values()]
        return sum(value.numel() * value.element_size() for tensors in kept for value in tensors.values())


def start_state(model: nn.Module) -> State:
    """A copy of a model's trained parameters."""
    return State({name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad})


def stack(states: Sequence[State]) -> State:
    """States of equal age as one, K first."""
    first = states[0]
    return State(
        {name: torch.stack([s.params[name] for s in states]) for name in first.params},
        {
            slot: {name: torch.stack([s.slots[slot][name] for s in states]) for name in kept}
            for slot, kept in first.slots.items()
        },
        first.steps,
    )


def join(states: Sequence[State], order: Tensor | None = None) -> State:
    """StackedTree states one after the other; ``order`` then sorts them."""
    if len(states) == 1 and order is None:
        return states[0]
    first = states[0]

    def cat(parts: list[Tensor]) -> Tensor:
        whole = torch.cat(parts)
        return whole if order is None else whole[order]

    return State(
        {name: cat([s.params[name] for s in states]) for name in first.params},
        {
            slot: {name: cat([s.slots[slot][name] for s in states]) for name in kept}
            for slot, kept in first.slots.items()
        },
        first.steps,
    )
