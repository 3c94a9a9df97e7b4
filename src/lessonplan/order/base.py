"""What all orderers have in common: the candidates they hold, and when they choose among them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from lessonplan.batch import Batch, Samples
from lessonplan.errors import ConfigError
from lessonplan.network.learner import Learner, Step
from lessonplan.network.passes import Passes
from lessonplan.order.options import Amount, check_amount, given, read_warmup
from lessonplan.parts.part import Occasion, Part
from lessonplan.seeds import fold_seed

_END: Any = object()


@dataclass
class Ranking:
    """What came out of one look at the candidates.

    Attributes:
        winners: batches in the order in which they are trained on.
        losers: batches that may be candidates again.
    """

    winners: list[Batch]
    losers: list[Batch]


@dataclass(eq=False, kw_only=True)
class Orderer(Part, ABC):
    """Chooses which of several candidate batches is trained on next.

    Candidates are drawn at random from a pool, which is what is left of the epoch. Winners leave it; losers
    return, so that every sample is trained on once an epoch (an ordering strategy), unless a subclass puts the
    winners back as well (a sampler strategy: as many updates an epoch, some samples more often, some never).
    At the end the pool is emptied: with fewer batches than candidates left, the choice is among these.

    Args:
        winners: batches taken from one look at the candidates, 1 or more (1 is the thesis; more of them share its
            cost, and the later ones rest on older scores); "all" looks once and then takes all candidates.
        pool: batches that are held to draw candidates from. "all" (the thesis) is all that is left of the epoch;
            a number lets whatever comes before (a selection, read-ahead) stay close to the present network.
        losers: "return" to the pool, or "drop": then an epoch is shorter.
        warmup: how long ordering is on: "5ep" (passes over the data), "20%" (of the budget), "500 steps"
            (updates); None is always. Whether it is over is decided at an epoch's start, steps at each update.
    """

    _lent: ClassVar[tuple[str, ...]] = ("_learner", "_data", "_validation")
    STATE: ClassVar[tuple[str, ...]] = ("generator", "_turns", "_updates", "on=active", "_enough")
    holds: ClassVar[bool] = True
    """Whether batches may wait for their turn, and an epoch be over later than what comes before."""
    winners: Amount = 1
    pool: Amount = "all"
    losers: Literal["return", "drop"] = "return"
    warmup: str | None = None

    def __post_init__(self) -> None:
        self.generator = torch.Generator()
        self._learner: Learner | None = None
        self._data: Samples | None = None
        self._validation: Samples | None = None
        self._seed = 0
        self._final_updates = False
        self.active = True
        self._held: list[Batch] = []
        self._queue: deque[Batch] = deque()
        self._turns = 0  # updates that the pool is still worth, with replacement
        self._updates = 0
        self._enough = False
        self._passes = Passes()
        self._warmup = read_warmup(self.warmup)
        for name in ("winners", "pool"):
            check_amount(self.name, name, getattr(self, name))
        if self.losers not in ("return", "drop"):
            raise ConfigError(f"{self.name}: losers={self.losers!r}: give 'return' or 'drop'")
        drawn = self.drawn
        if isinstance(self.pool, int) and (drawn == "all" or drawn > self.pool):
            raise ConfigError(
                f"{self.name}: {drawn} candidates from a pool of {self.pool} batches: hold at least as many as"
                " there are candidates, or give pool='all'"
            )
        if isinstance(self.winners, int) and drawn != "all" and self.winners > drawn:
            raise ConfigError(f"{self.name}: {self.winners} winners among {drawn} candidates: take fewer")

    # -- what a subclass says --------------------------------------------------------------------------

    @property
    @abstractmethod
    def drawn(self) -> Amount:
        """How many candidates are looked at."""

    @abstractmethod
    def choose(self, candidates: list[Batch], count: int) -> Ranking:
        """Order the candidates; the first ``count`` (at most) are winners."""

    @property
    def with_replacement(self) -> bool:
        """Whether winners stay in the pool."""
        return False

    # -- what a trainer tells an orderer ---------------------------------------------------------------

    def setup(self, occasion: Occasion) -> None:
        """Hear of the run it is for."""
        self._data, self._validation, self._seed = occasion.data, occasion.validation, occasion.seed
        self._final_updates = occasion.final_updates
        self.generator.manual_seed(fold_seed(occasion.seed, "order", self.name))

    def attach(self, learner: Learner) -> None:
        """Work with this network, loss and optimizer from now on; they are never stored or copied."""
        self._learner = learner

    def start_epoch(self, epoch: int, progress: float, epochs: float) -> None:
        """Say that an epoch begins.

        Args:
            epoch: its number, from 0.
            progress: the share of the budget that is used.
            epochs: passes over the raw data so far.
        """
        del epoch
        amount, unit = self._warmup
        so_far = {"ep": epochs, "%": 100 * progress, "steps": self._updates}[unit]
        if so_far >= amount:
            self.active = False

    def observe(self, batch: Batch, step: Step) -> None:
        """Hear what an update saw; most orderers have no use for it."""
        del batch, step

    # -- batches ---------------------------------------------------------------------------------------

    def batches(self, upstream: Iterator[Batch | None]) -> Iterator[Batch | None]:
        """Batches in the order of choice.

        Args:
            upstream: candidates; None means that nothing is ready yet and is passed on.

        Yields:
            winners (and Nones). While a winner is out, ``state_dict`` is all that is needed to go on behind it
            with an upstream that goes on likewise. ``Batch.step`` is filled where its update has been made.

        Raises:
            ConfigError: more candidates than batches in an epoch, or something is missing (the network).
        """
        while True:
            if not self._queue and self.active:
                yield from self._fill(upstream)
                if not self._held:
                    return
                self._look()
            elif not self._queue:
                batch = self._held.pop(0) if self._held else next(upstream, _END)
                if batch is _END:
                    return
                if batch is None:
                    yield None
                    continue
                self._queue.append(batch)
            yield self._next()

    def _fill(self, upstream: Iterator[Batch | None]) -> Iterator[None]:
        """Take batches until the pool is full or there are no more."""
        while self.pool == "all" or len(self._held) < self.pool:
            batch = next(upstream, _END)
            if batch is _END:
                return
            if batch is None:
                yield None
            else:
                self._held.append(self._as_held(batch))
                self._turns += 1

    def _look(self) -> None:
        """Draw candidates from the pool and queue those that are chosen."""
        if self.drawn != "all" and not self._enough and len(self._held) < self.drawn:
            raise ConfigError(
                f"{self.name}: {self.drawn} candidates, but there are only {len(self._held)} batches in an epoch:"
                " take fewer candidates or smaller batches"
            )
        self._enough = True
        drawn = len(self._held) if self.drawn == "all" else min(self.drawn, len(self._held))
        among = set(torch.randperm(len(self._held), generator=self.generator)[:drawn].tolist())
        candidates = [self._as_held(self._held[place]) for place in sorted(among)]
        count = drawn if self.winners == "all" else min(self.winners, drawn)
        if self.with_replacement:
            count = min(count, self._turns)
        single = len(candidates) == 1
        choice = Ranking(candidates, []) if single else self.choose(candidates, count)
        self._queue.extend(choice.winners)
        if self.losers == "drop" or not self.with_replacement:
            self._held = [batch for place, batch in enumerate(self._held) if place not in among]
            if self.losers == "return":
                self._held += [self._as_held(batch) for batch in choice.losers]

    def _next(self) -> Batch:
        """The next winner; from here on it counts as trained on."""
        batch = self._queue.popleft()
        self._updates += 1
        if self.with_replacement and self.losers == "return":
            self._turns -= 1
            if self._turns <= 0:
                self._held, self._turns = [], 0
        amount, unit = self._warmup
        if unit == "steps" and self._updates >= amount:
            self._switch_off()
        return batch

    def _switch_off(self) -> None:
        """From now on batches come as they come."""
        self.active = False
        if self.with_replacement and self.losers == "return":
            # Winners are still among what is held; the epoch ends when it would have ended.
            self._held = self._held[: max(0, self._turns - len(self._queue))]

    @property
    def keeps_pixels(self) -> bool:
        """Whether batches are held with the pixels that they bring; else they are read when they are drawn."""
        return self.pool == self.drawn

    def _as_held(self, batch: Batch) -> Batch:
        if not self.keeps_pixels:
            return batch.without_pixels()
        return Batch(batch.indices, batch.epochs, batch.weights, batch.x, batch.y)

    # -- what an orderer tells a trainer ---------------------------------------------------------------

    def take_passes(self) -> Passes:
        """The passes through the network that choosing has taken since it was asked last.

        A winner's own update is not among them, also where the look-ahead has made it (``Batch.step``).
        """
        passes, self._passes = self._passes, Passes()
        return passes

    def describe(self) -> dict[str, float | int | bool]:
        """What is worth a place in an epoch's log."""
        return {"on": self.active}

    def needs_validation(self) -> bool:
        """Whether choices rest on validation samples."""
        return False

    def needs_network(self) -> bool:
        """Whether nothing can be chosen before ``attach``."""
        return True

    # -- state -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training, as tensors and primitives; batches by their indices."""
        return {
            **super().state_dict(),
            "held": [batch.state_dict() for batch in self._held],
            "queue": [batch.state_dict() for batch in self._queue],
            "passes": list(self._passes),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        super().load_state_dict(state)
        self._held = [Batch.from_state(batch) for batch in state["held"]]
        self._queue = deque(Batch.from_state(batch) for batch in state["queue"])
        self._passes = Passes(*state["passes"])

    # -- help for subclasses ---------------------------------------------------------------------------

    @property
    def learner(self) -> Learner:
        """The network, loss and optimizer.

        Raises:
            ConfigError: there is none yet.
        """
        return given(self._learner, f"{self.name} looks at the network: call attach(learner), or train with fit")

    @property
    def data(self) -> Samples:
        """The training samples.

        Raises:
            ConfigError: there are none yet.
        """
        return given(self._data, f"{self.name} reads samples: call setup(Occasion(seed, data)), or train with fit")
