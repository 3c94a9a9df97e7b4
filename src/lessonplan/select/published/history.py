"""Selectors that choose by what the network said when it was trained on a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from lessonplan.errors import ConfigError, DataError
from lessonplan.select.base import Needs, Scored, Selector
from lessonplan.select.functional import rounds


@dataclass(eq=False, kw_only=True)
class Remembering(Selector, ABC):
    """A selector with tables of one row a training sample, on the CPU."""

    STATE: ClassVar[tuple[str, ...]] = ("tables",)
    tables: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def needs(self) -> Needs:
        """What the network said before, not what it says now."""
        return "history"

    @abstractmethod
    def blank(self, samples: int) -> dict[str, Tensor]:
        """Tables without an entry, ``(samples, ...)`` each."""

    @abstractmethod
    def opinion(self, scored: Scored) -> Tensor:
        """What is worth noting of samples that were trained on, ``(N,)`` on the CPU."""

    @abstractmethod
    def note(self, indices: Tensor, opinion: Tensor) -> None:
        """Enter it; no index repeats."""

    def make_room(self, samples: int, num_classes: int) -> None:
        """Make the tables."""
        super().make_room(samples, num_classes)
        self.tables = self.blank(samples)

    def table(self, name: str) -> Tensor:
        """A table by name.

        Raises:
            ConfigError: ``setup`` was not called.
        """
        if not self.tables:
            raise ConfigError(f"{self.name} has no tables yet: call make_room(samples, num_classes) first")
        return self.tables[name]

    def observe(self, scored: Scored) -> None:
        """Take note; of a sample that was drawn twice, one row after the other."""
        indices, opinion = scored.indices.cpu(), self.opinion(scored)
        for rows in rounds(indices):
            self.note(indices[rows], opinion[rows])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave.

        Raises:
            DataError: it is of another number of samples.
        """
        for name, stored in state["tables"].items():
            here = self.tables.get(name)
            if here is not None and here.shape != stored.shape:
                raise DataError(
                    f"{self.name}: the stored history has the shape {tuple(stored.shape)} and these data need"
                    f" {tuple(here.shape)}: go on with the data it began with"
                )
        super().load_state_dict(state)


def observed_losses(name: str, scored: Scored) -> Tensor:
    """The losses ``(N,)`` of what was trained on, on the CPU.

    Raises:
        DataError: there is not one for each sample.
    """
    if scored.losses is None or scored.losses.shape != (len(scored),):
        shape = None if scored.losses is None else tuple(scored.losses.shape)
        raise DataError(
            f"{name} needs a loss for each of {len(scored)} samples it was trained on, but got the shape {shape}:"
            " use a loss function with reduction='none'"
        )
    return scored.losses.detach().cpu()


def observed_logits(name: str, scored: Scored) -> Tensor:
    """The logits ``(N, C)`` of what was trained on, on the CPU in float64.

    Raises:
        DataError: there is not a row for each sample.
    """
    if scored.logits is None or scored.logits.shape[:1] != (len(scored),):
        shape = None if scored.logits is None else tuple(scored.logits.shape)
        raise DataError(
            f"{name} needs logits (N, C) of the {len(scored)} samples it was trained on, but got the shape {shape}"
        )
    return scored.logits.detach().cpu().to(torch.float64)
