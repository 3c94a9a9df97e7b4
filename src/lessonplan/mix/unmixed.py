"""No mix, as a mix: a plan without one goes the same way as one with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lessonplan.mix.base import Mix, batch_of


@dataclass(eq=False)
class Unmixed(Mix):
    """Hands a batch on as it is: the same tensors, labels as they are.

    >>> import torch
    >>> Unmixed()(torch.ones(2, 1), torch.tensor([0, 1]))[1]
    tensor([0, 1])
    """

    name: ClassVar[str] = "none"
    changes: ClassVar[bool] = False
    num_classes: int | None = None

    def __call__(self, x: Tensor | Sequence[Any], y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The batch as it is."""
        return batch_of(x, y)

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x, y

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """Nothing goes around the forward pass."""
        yield
