"""Mixes made of mixes: one of several, sometimes, until."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lessonplan.errors import ConfigError, require
from lessonplan.mix.base import Mix, StepResult


def share_classes(mix: Mix, members: Sequence[Mix]) -> None:
    """Let a mix and its members know as many classes as one of them does."""
    known = (member.num_classes for member in members if member.num_classes is not None)
    mix.num_classes = next(known, None) if mix.num_classes is None else mix.num_classes
    for member in members:
        member.num_classes = mix.num_classes if member.num_classes is None else member.num_classes


@dataclass(eq=False)
class Choice(Mix):
    """Draw one of several mixes for each batch.

    Args:
        mixes: at least one; they must be different objects.
        p: their probabilities, summing to 1; equal when None.
        num_classes: see ``Mix``.

    >>> from lessonplan.mix import CutMix, Mixup
    >>> mix = Choice([Mixup(), CutMix()], p=[0.5, 0.5], num_classes=10)
    """

    name: ClassVar[str] = "choice"
    mixes: Sequence[Mix] = ()
    p: Sequence[float] | None = None
    num_classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.mixes) > 0, "a choice of no mixes: give at least one")
        weights = [1.0 / len(self.mixes)] * len(self.mixes) if self.p is None else list(self.p)
        require(
            len(weights) == len(self.mixes) and min(weights) >= 0 and abs(sum(weights) - 1) < 1e-6,
            f"p={self.p} for {len(self.mixes)} mixes: give one probability each, together 1",
        )
        require(
            len({child.draws(1) for child in self.mixes}) == 1,
            "mixes that draw different numbers of samples for a batch cannot take turns: give draw='raw'",
        )
        self._weights = torch.tensor(weights, dtype=torch.float32, device="cpu")
        share_classes(self, self.mixes)

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        share_classes(self, self.mixes)
        chosen = self.mixes[int(torch.multinomial(self._weights, 1, generator=self.generator))]
        mixed = chosen(x, y)
        self._mixed_k = chosen.mixed_k()
        return mixed

    def children(self) -> Iterator[Mix]:
        """The mixes chosen from."""
        yield from self.mixes

    def draws(self, batch_size: int) -> int:
        """As any member asks for."""
        return self.mixes[0].draws(batch_size)

    def current_k(self) -> int:
        """The largest of the members'."""
        return max(child.current_k() for child in self.mixes)

    def __str__(self) -> str:
        text = "|".join(_bracketed(mix, Choice) for mix in self.mixes)
        return text if self.p is None else f"({text}):weights={'/'.join(str(p) for p in self.p)}"


@dataclass(eq=False)
class Chain(Mix):
    """One mix after another, each on what the one before it gave; written ``Mixup() >> Cutout()``.

    Targets are soft, so that a mixed batch can be mixed again.

    Args:
        mixes: two or more; they must be different objects. Only the last one may go on inside the network
            (``ManifoldMixup``), and only the first one may draw k batches for one (a sum with ``draw="mixed"``).
        num_classes: see ``Mix``.

    >>> from lessonplan.mix import Cutout, Mixup
    >>> str(Mixup(alpha=0.2) >> Cutout())
    'mixup:alpha=0.2 >> cutout'
    """

    name: ClassVar[str] = "chain"
    mixes: Sequence[Mix] = ()
    num_classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.mixes = [part for mix in self.mixes for part in (mix.mixes if isinstance(mix, Chain) else [mix])]
        require(len(self.mixes) > 1, "a chain of fewer than two mixes: give for example mixup >> cutout")
        require(
            len({id(mix) for mix in self.mixes}) == len(self.mixes),
            "a chain holds the same mix twice, whose state would be one: give each link a mix of its own",
        )
        for mix in self.mixes[:-1]:
            require(
                not mix.reaches_inside(),
                f"{mix} goes on inside the network on the samples that it was given, so that nothing may be mixed"
                " after it: write it last",
            )
        for mix in self.mixes[1:]:
            mix.expect_soft_targets()
            require(
                mix.draws(1) == 1,
                f"{mix} draws k batches for one and stands behind another mix: write it first, or give draw='raw'",
            )
        share_classes(self, self.mixes)

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        share_classes(self, self.mixes)
        for mix in self.mixes:
            x, y = mix(x, y)
        self._mixed_k = math.prod(mix.mixed_k() for mix in self.mixes)
        return x, y

    def rehearse(self, x: Tensor, y: Tensor) -> None:
        """As far as the links can be rehearsed one after another; see ``Mix``."""
        before = self.state_dict()
        for mix in self.mixes:
            mix.rehearse(x, y)
            if mix.needs_network():
                break
            x, y = mix(x, y)
        self.load_state_dict(before)

    def children(self) -> Iterator[Mix]:
        """The links."""
        yield from self.mixes

    def draws(self, batch_size: int) -> int:
        """As the first link asks for."""
        return self.mixes[0].draws(batch_size)

    def current_k(self) -> int:
        """The links' together: a sum of 2 of sums of 3 is made of 6."""
        return math.prod(mix.current_k() for mix in self.mixes)

    def describe(self) -> dict[str, Any]:
        """What the links say, each under its name, where it says something."""
        said = {f"{place} {mix.name}": mix.describe() for place, mix in enumerate(self.mixes, 1)}
        return {name: words for name, words in said.items() if words}

    def __str__(self) -> str:
        return " >> ".join(_bracketed(mix, Choice) for mix in self.mixes)


def _bracketed(mix: Mix, kind: type[Mix]) -> str:
    """A mix' text, in brackets where its marks would be read as those of the mix around it."""
    return f"({mix})" if isinstance(mix, kind) else str(mix)


Mix.chain = Chain


@dataclass(eq=False)
class Wrapper(Mix):
    """A mix around one other mix."""

    mix: Mix | None = None

    def __post_init__(self) -> None:
        require(isinstance(self.mix, Mix), f"{type(self).__name__} needs a mix as its first argument")
        super().__post_init__()

    @property
    def inner(self) -> Mix:
        """The mix inside."""
        assert self.mix is not None
        return self.mix

    @property
    def num_classes(self) -> int | None:
        """As many as the mix inside knows of."""
        return self.inner.num_classes

    @num_classes.setter
    def num_classes(self, value: int | None) -> None:
        self.inner.num_classes = value

    def children(self) -> Iterator[Mix]:
        """The mix inside."""
        yield self.inner

    def _mix_if(self, applied: bool, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        mixed = self.inner(x, y) if applied else (self._copy(x), self._targets(y))
        self._mixed_k = self.inner.mixed_k() if applied else 1
        return mixed

    def _said(self, option: str) -> str:
        """The text of the mix inside with an option of this one; several of them are put in brackets."""
        if isinstance(self.inner, (Choice, Chain)):
            return f"({self.inner}):{option}"
        text = str(self.inner)
        return f"{text}{',' if '=' in text else ':'}{option}"

    def draws(self, batch_size: int) -> int:
        """As many raw samples as the mix inside asks for."""
        return self.inner.draws(batch_size)

    def current_k(self) -> int:
        """As many images as the mix inside blends."""
        return self.inner.current_k()

    def describe(self) -> dict[str, Any]:
        """What the mix inside says."""
        return self.inner.describe()


@dataclass(eq=False)
class Probability(Wrapper):
    """Apply a mix to a batch with probability p; other batches keep their samples.

    Args:
        mix: the mix to apply.
        p: probability in [0, 1].

    >>> from lessonplan.mix import Mixup
    >>> x, target = Probability(Mixup(num_classes=2), p=0.0)(torch.ones(3), torch.tensor([0, 1, 1]))
    >>> target.tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """

    name: ClassVar[str] = "probability"
    p: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.p <= 1, f"p={self.p} is no probability: give a number in [0, 1]")
        require(
            self.inner.draws(1) == 1,
            "a sum with draw='mixed' draws k batches for one, which the network would get whole when it is not"
            " applied: give draw='raw'",
        )

    def __str__(self) -> str:
        return self._said(f"p={self.p}")

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._mix_if(float(self._uniform()) < self.p, x, y)


@dataclass(eq=False)
class Until(Wrapper):
    """Mix until a share of the budget is used, then train on clean samples (a fine-tuning phase).

    Args:
        mix: the mix to apply.
        end: ``"80%"`` or 0.8, the share of the budget after which mixing ends.
        start: the share after which it begins, less than ``end``; samples are clean before.

    >>> from lessonplan.mix import Mixup
    >>> mix = Until(Mixup(num_classes=2), "80%")
    >>> _ = mix.advance(0.9)
    >>> mix(torch.tensor([1.0, 5.0]), torch.tensor([0, 1]))[0]
    tensor([1., 5.])
    """

    name: ClassVar[str] = "until"
    STATE: ClassVar[tuple[str, ...]] = ("active",)
    end: str | float = "80%"
    start: str | float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._start, self._end = parse_share(self.start), parse_share(self.end)
        require(
            self._start < self._end or self._start == 0,
            f"a mix from {self.start} until {self.end} of the budget never mixes: let it begin before it ends",
        )
        self.active = self._start == 0

    def __str__(self) -> str:
        begins = [f"from={self.start}"] if self._start else []
        ends = [] if begins and self._end == 1 else [f"until={self.end}"]
        return self._said(",".join([*begins, *ends]))

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self._mix_if(self.active, x, y)

    def advance(self, progress: float, *, epoch_start: bool = True) -> bool:
        """Mixing is on from ``start`` to ``end``; the mix inside hears of its own share of the budget."""
        # A batch drawn k times larger for a sum must not reach the network whole: wait for the next epoch.
        if epoch_start or self.inner.draws(1) == 1:
            self.active = self._start <= progress < self._end
        length = self._end - self._start
        inner_progress = min(max(progress - self._start, 0.0) / length, 1.0) if length else 1.0
        return super().advance(inner_progress, epoch_start=epoch_start)

    def step(self, metric: float) -> StepResult:
        """As the mix inside while it is active; a cascade inside makes no switches on clean samples."""
        return super().step(metric) if self.active else "waiting"

    def draws(self, batch_size: int) -> int:
        """As the mix inside while it is active."""
        return self.inner.draws(batch_size) if self.active else batch_size

    def current_k(self) -> int:
        """As the mix inside while it is active, else 1."""
        return self.inner.current_k() if self.active else 1

    def describe(self) -> dict[str, Any]:
        """As the mix inside, and whether it is active."""
        return {**self.inner.describe(), "active": self.active}


def parse_share(value: str | float) -> float:
    """A share of the budget from ``"80%"`` or 0.8.

    >>> parse_share("80%"), parse_share(0.25)
    (0.8, 0.25)
    """
    try:
        share = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(f"{value!r} is no share of the budget: give for example '80%' or 0.8")
    return share
