"""What filters and selectors have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.network.accelerator import is_accelerator
from lessonplan.parts import part
from lessonplan.parts.identity import describe_value
from lessonplan.parts.part import Occasion

if TYPE_CHECKING:
    from lessonplan.select.selection import Selection

Needs = Literal["forward", "history", "nothing"]


@dataclass
class Scored:
    """Candidate samples, and what the network says about them.

    Attributes:
        indices: ``(N,)`` int64 positions in the training set, on the CPU.
        targets: ``(N,)`` labels.
        logits: ``(N, C)`` float32, or None where no forward pass was asked for.
        losses: ``(N,)`` float32, or None likewise.
    """

    indices: Tensor
    targets: Tensor
    logits: Tensor | None = None
    losses: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def on_host(self) -> Scored:
        """The same on the CPU, where choices are made; an accelerator is waited for once."""
        logits, losses = self.logits, self.losses
        if logits is not None and losses is not None and is_accelerator(logits.device) and logits.ndim == 2:
            both = torch.cat([logits.detach().float(), losses.detach().float()[:, None]], 1).cpu()
            logits, losses = both[:, :-1], both[:, -1]
        return Scored(
            self.indices.cpu(),
            self.targets.cpu(),
            logits.detach().cpu() if logits is not None else None,
            losses.detach().cpu() if losses is not None else None,
        )

    def rows(self, positions: Tensor) -> Scored:
        """Some of the candidates, by position among them or by mask."""
        here = positions.cpu()
        return Scored(
            self.indices[here],
            self.targets[positions.to(self.targets.device)],
            self.logits[positions] if self.logits is not None else None,
            self.losses[positions] if self.losses is not None else None,
        )


@dataclass(eq=False, kw_only=True)
class Part(part.Part):
    """One part of a selection: a filter or a selector. Parts are joined with ``>>``.

    Attributes:
        name: how it is written in text.
        progress: how much of the run is over, in [0, 1].
    """

    STATE: ClassVar[tuple[str, ...]] = ("progress",)
    progress: float = field(default=0.0, init=False, repr=False)

    @property
    def needs(self) -> Needs:
        """What it chooses by; it may change in the course of a run.

        "forward": the network's present opinion of every candidate; "history": what it said when it was
        trained on them (``observe``); "nothing".
        """
        return "forward"

    def setup(self, occasion: Occasion | int, num_classes: int = 0) -> None:
        """Hear of the run it is for; called once. Two numbers are what ``make_room`` takes, as before."""
        if isinstance(occasion, int):
            self.make_room(occasion, num_classes)
        else:
            self.make_room(len(occasion.data), occasion.num_classes)

    def make_room(self, samples: int, num_classes: int) -> None:
        """Make room for what is remembered of each of ``samples`` training samples."""

    def advance(self, progress: float) -> None:
        """Say how much of the run is over, in [0, 1]; schedules follow it."""
        self.progress = progress

    def observe(self, scored: Scored) -> None:
        """Take note of what the network said about samples it was trained on."""

    @property
    def text(self) -> str:
        """The part as it is written: its name, and the options that are not the defaults."""
        return str(self)

    def config(self) -> dict[str, Any]:
        """The part as plain data: its name and all of its options."""
        return {**self.named(), **{name: describe_value(value) for name, value in self.options().items()}}

    def __rshift__(self, other: Part | Selection) -> Selection:
        from lessonplan.select.selection import Selection

        return Selection.of(self) >> other


@dataclass(eq=False, kw_only=True)
class Filter(Part, ABC):
    """Says of each candidate alone whether it stays."""

    @abstractmethod
    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Which samples stay.

        Args:
            logits: ``(N, C)``.
            targets: ``(N,)`` labels.

        Returns:
            ``(N,)`` bool.
        """

    def mask(self, scored: Scored, generator: torch.Generator) -> Tensor:
        """The same for scored candidates; filters that draw or remember override this."""
        del generator
        assert scored.logits is not None
        return self(scored.logits, scored.targets)


@dataclass(eq=False, kw_only=True)
class Selector(Part, ABC):
    """Chooses among all candidates by their scores.

    Args:
        size: how many: a number of samples (1 or more, an int), or a share of the candidates (a float in
            (0, 1]).
    """

    size: int | float = 0.5

    def __post_init__(self) -> None:
        check_size(self.name, self.size)

    def make_room(self, samples: int, num_classes: int) -> None:
        """Check that there are as many samples as it is to choose; called once.

        Raises:
            ConfigError: there are fewer.
        """
        if isinstance(self.size, int) and self.size > samples:
            raise ConfigError(
                f"{self.name}: size {self.size} of {samples} training samples: give at most {samples}"
            )

    def score(self, scored: Scored) -> Tensor:
        """What the choice is made by, ``(N,)`` float32: the losses, unless a selector says otherwise."""
        assert scored.losses is not None
        return scored.losses

    @abstractmethod
    def __call__(self, scores: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Choose.

        Args:
            scores: ``(N,)``, what ``score`` gave.
            size: how many, at most N.
            generator: on the CPU.

        Returns:
            positions ``(n,)`` int64 on the scores' device (repeats where it draws with replacement), and
            factors of their losses ``(n,)`` float32 or None for ones.
        """

    def number(self, candidates: int) -> int:
        """How many are chosen of so many candidates."""
        if isinstance(self.size, int):
            return min(self.size, candidates)
        return min(candidates, max(1, round(self.size * candidates))) if candidates else 0


def check_size(name: str, size: int | float) -> None:
    """A size is a whole number of at least 1, or a share in (0, 1].

    Raises:
        ConfigError: it is neither.
    """
    whole = isinstance(size, int) and not isinstance(size, bool)
    if (whole and size >= 1) or (isinstance(size, float) and 0 < size <= 1):
        return
    raise ConfigError(f"{name}: size {size!r}: give a number of samples (1 or more) or a share in (0, 1]")
