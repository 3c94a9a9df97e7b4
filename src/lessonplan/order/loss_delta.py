"""Maximum loss delta: train on the candidate whose update helps most."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from lessonplan.batch import Batch
from lessonplan.errors import ConfigError
from lessonplan.network.learner import Learner
from lessonplan.order.base import Orderer, Ranking
from lessonplan.order.lookahead.exact import Exact
from lessonplan.order.lookahead.external import ExternalDraw, check_apart
from lessonplan.order.lookahead.fidelity import Fidelity
from lessonplan.order.lookahead.levelled import levelled
from lessonplan.order.lookahead.look import Goal, LookAhead, On
from lessonplan.order.lookahead.table import METHODS
from lessonplan.order.options import Amount, check_amount, given
from lessonplan.order.regroup import choice_of_samples
from lessonplan.order.strategies import pick
from lessonplan.parts.part import Occasion
from lessonplan.seeds import fold_seed

_WINDOW = 32  # looks over which gains are averaged before ordering may be switched off
_COMPARED = 8  # random batches with which one made of samples is compared


@dataclass(eq=False, kw_only=True)
class LossDelta(Orderer):
    """Of several candidates, the one whose update lowers the loss most (thesis, section 2.4.2).

    Args:
        candidates: K batches drawn from the pool for each look, or "all".
        on: whose loss: the candidate's own ("same"), its drop relative to the loss before ("relative"), or that
            of validation samples drawn at each epoch's start ("external").
        method: "exact" makes and undoes an update with each candidate; "stacked" makes them side by side (no batch
            norm). The others compare gradients with the external batch's and need ``on="external"``:
            "first-order" all of them, "last-layers" those of the last layers, "kept-gradients" all of them,
            most of which are kept from looks before; "per-sample" scores samples and makes the winner of the best
            of all candidates (2 are enough; with ``losers="drop"`` the others do not come back). See the method's
            card for cost and fidelity.
        external: validation samples, at most as many as there are.
        layers: how many of the last layers (modules with parameters) "last-layers" looks at.
        until_gain_below: switch ordering off for good when the measured drop of the loss per cost, averaged over
            32 looks, falls under this multiple of plain SGD's, which is the mean candidate's (1: as good as plain
            SGD). The cheap methods measure it only with ``fidelity``.
        fidelity: with the cheap methods, compare with exact look-ahead at every so many updates; the training is
            the same without. Also measured: winners that were taken from an older look. A winner made of samples
            is compared with eight random batches of the pool.
        winners, pool, losers, warmup: see ``Orderer``.

    >>> LossDelta(candidates=8, on="external", warmup="5ep").needs_validation()
    True
    """

    name: ClassVar[str] = "loss-delta"
    STATE: ClassVar[tuple[str, ...]] = ("_external_loss", "_fidelity", "_sums")
    candidates: Amount = 8
    on: On = "same"
    method: str = "exact"
    external: int = 512
    layers: int = 7
    until_gain_below: float | None = None
    fidelity: int | None = None

    def __post_init__(self) -> None:
        check_amount(self.name, "candidates", self.candidates)
        for option, allowed in (("on", get_args(On)), ("method", tuple(METHODS))):
            if (value := getattr(self, option)) not in allowed:
                raise ConfigError(f"{self.name}: {option}={value!r}: give one of {', '.join(allowed)}")
        method = METHODS[self.method]
        cheap = not method.measures
        if method.needs_external and self.on != "external":
            raise ConfigError(f"{self.name}: method={self.method} needs an external batch: give on=external")
        if self.fidelity is not None and (not cheap or self.fidelity < 1):
            raise ConfigError(
                f"{self.name}: fidelity={self.fidelity} with method={self.method}: give how many updates apart (1"
                " or more) a cheap method is compared with exact"
            )
        if self.until_gain_below is not None and cheap and self.fidelity is None:
            raise ConfigError(f"{self.name}: until_gain_below needs measured gains: give fidelity=10, say, too")
        if self.until_gain_below is not None and not self.until_gain_below > 0:
            raise ConfigError(f"{self.name}: until_gain_below={self.until_gain_below}: give a factor above 0")
        if method.holds_candidates:
            if self.pool not in ("all", self.candidates):
                raise ConfigError(
                    f"{self.name}: method={self.method} holds its candidates: leave pool={self.pool} out"
                )
            self.pool = self.candidates
        if self.layers < 1:
            raise ConfigError(f"{self.name}: layers={self.layers}: give 1 or more")
        self._external = ExternalDraw(self.external)
        self._stored: dict[str, Any] | None = None
        self._external_loss: float | None = None
        self._looks: LookAhead | None = None
        self._exact: Exact | None = None
        self._fidelity = Fidelity()
        self._window: deque[tuple[float, float, float]] = deque(maxlen=_WINDOW)
        self._fresh = False
        self._sums = [0.0, 0.0, 0.0]  # looks, their winners' gains, their mean gains
        super().__post_init__()

    def config(self) -> dict[str, Any]:
        """As of every part; stacked looks at their own batches' losses say that both are without dropout.

        Runs of before that was so, whose losses before the update had dropout, are other ones.
        """
        own_losses = self.method == "stacked" and self.on != "external"
        return {**super().config(), **({"dropout": "off"} if own_losses else {})}

    @property
    def drawn(self) -> Amount:
        """As many as ``candidates`` says."""
        return self.candidates

    # -- the run -------------------------------------------------------------------------------------

    def setup(self, occasion: Occasion) -> None:
        """Hear of the run; an external batch must come from validation samples that are not trained on."""
        super().setup(occasion)
        if self.on == "external":
            check_apart(occasion.data, occasion.validation)

    def attach(self, learner: Learner) -> None:
        """Work with this network from now on; see ``Orderer``."""
        super().attach(learner)
        self._looks = METHODS[self.method](learner, self.data, layers=self.layers)
        self._exact = Exact(learner, self.data)
        if self._stored is not None:
            self._restore_cache(self._stored)

    def start_epoch(self, epoch: int, progress: float, epochs: float) -> None:
        """Say that an epoch begins: another external batch, and telemetry starts anew."""
        super().start_epoch(epoch, progress, epochs)
        self._external.start_epoch(epoch)
        self._external_loss = None
        self._fidelity, self._sums = Fidelity(), [0.0, 0.0, 0.0]

    def needs_validation(self) -> bool:
        """Whether updates are judged by an external batch."""
        return self.on == "external"

    # -- choosing ------------------------------------------------------------------------------------

    def choose(self, candidates: list[Batch], count: int) -> Ranking:
        """Look ahead with every candidate; the largest drops of the loss win."""
        looks = given(self._looks, f"{self.name} looks at the network: call attach(learner), or train with fit")
        if looks.judges_samples:
            return self._choose_samples(looks, candidates, count)
        # Measured first: a look that keeps its winner's update leaves the network behind it.
        measured = self._measure(candidates) if self._measurement_due() else None
        goal = Goal(self.on, self._read_external(), self._external_loss)
        look = levelled(looks, looks.look(candidates, goal, keep=self._final_updates))
        self._passes = self._passes.plus(look.passes)
        # The next look starts where this one ends only if its winner is the one update in between.
        self._external_loss = look.loss if look.step is not None and count == 1 else None
        order = pick(look.scores, "descending", len(candidates), self.generator).tolist()
        winners = [candidates[place] for place in order[:count]]
        winners[0].step = look.step
        gains = look.gains if measured is None else measured
        if measured is not None:
            self._fidelity.add(measured, order[0], look.scores)
        if gains is not None:
            own = sum(3 * len(batch) for batch in winners)
            self._record(gains[order[:count]].mean().item(), gains.mean().item(), (look.passes.cost + own) / own)
        self._fresh = True
        return Ranking(winners, [candidates[place] for place in order[count:]])

    def _choose_samples(self, looks: LookAhead, candidates: list[Batch], count: int) -> Ranking:
        """Winners made of the samples with the highest scores, of whichever candidate they are."""
        look = levelled(looks, looks.look(candidates, Goal(self.on, self._read_external())))
        self._passes = self._passes.plus(look.passes)
        taken = sum(len(batch) for batch in candidates[:count])
        order = pick(look.scores, "descending", taken, self.generator)
        choice = choice_of_samples(candidates, order, count, self.data, self.generator)
        if self._measurement_due():
            gains = self._measure([choice.winners[0], *self._others(candidates)])
            self._fidelity.add_made(gains[0].item(), gains[1:])
            cost = (look.passes.cost + 3 * taken) / (3 * taken)
            self._record(gains[0].item(), gains[1:].mean().item(), cost)
        self._fresh = True
        return choice

    def _others(self, candidates: list[Batch]) -> list[Batch]:
        """Random batches of the pool that have not been looked at, or the candidates where there are none."""
        looked = {id(batch.indices) for batch in candidates}
        held = [batch for batch in self._held if id(batch.indices) not in looked] or candidates
        generator = torch.Generator().manual_seed(fold_seed(self._seed, "fidelity", self._updates))
        places = torch.randperm(len(held), generator=generator)[:_COMPARED].tolist()
        return [held[place].without_pixels() for place in places]

    def _next(self) -> Batch:
        older, self._fresh = not self._fresh, False
        if older and self.active and self._measurement_due() and self._held:
            # This winner rests on an older look: what is it worth now, among others of the pool?
            generator = torch.Generator().manual_seed(fold_seed(self._seed, "fidelity", self._updates))
            number = len(self._held) if self.candidates == "all" else self.candidates - 1
            others = torch.randperm(len(self._held), generator=generator)[:number].tolist()
            batches = [self._queue[0], *(self._held[place].without_pixels() for place in others)]
            self._fidelity.add(self._measure(batches), 0)
        return super()._next()

    def _read_external(self) -> tuple[Tensor, Tensor] | None:
        if self.on != "external":
            return None
        validation = given(self._validation, f"{self.name} reads validation samples: call setup(Occasion(...))")
        return self._external.read(validation, self._seed)

    # -- what it is worth ----------------------------------------------------------------------------

    def _measurement_due(self) -> bool:
        return self.fidelity is not None and self._updates % self.fidelity == 0

    def _measure(self, candidates: list[Batch]) -> Tensor:
        """The gain ``(K,)`` of every candidate by exact look-ahead."""
        exact = given(self._exact, f"{self.name} looks at the network: call attach(learner), or train with fit")
        look = exact.look(candidates, Goal("external", self._read_external()))
        assert look.gains is not None
        self._passes = self._passes.plus(look.passes)
        return look.gains

    def _record(self, gain: float, plain: float, cost: float) -> None:
        """Take note of the winners' and the candidates' mean gain, and of an update's cost in plain updates."""
        self._sums = [a + b for a, b in zip(self._sums, (1.0, gain, plain), strict=True)]
        self._window.append((gain, plain, cost))
        full = len(self._window) == _WINDOW
        if self.until_gain_below is not None and full and self._gain_per_cost() < self.until_gain_below:
            self._switch_off()

    def _gain_per_cost(self) -> float:
        """The gain per cost in multiples of plain SGD's; infinite where only ordering makes progress."""
        gain, plain, cost = (sum(values) for values in zip(*self._window, strict=True))
        if gain <= 0:
            return 0.0
        return gain / cost / (plain / len(self._window)) if plain > 0 else math.inf

    def describe(self) -> dict[str, float | int | bool]:
        """Whether it is on, and this epoch's looks, mean gains (winners', all candidates') and fidelity."""
        looks, gain, plain = self._sums
        described = super().describe()
        if looks:
            described |= {"looks": int(looks), "gain": gain / looks, "mean_gain": plain / looks}
        return {**described, **self._fidelity.describe()}

    # -- state ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training."""
        return {
            **super().state_dict(),
            "epoch": self._external.epoch,
            "window": [list(entry) for entry in self._window],
            "cache": self._cache(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        super().load_state_dict(state)
        self._external.start_epoch(state["epoch"])
        self._window = deque(((a, b, c) for a, b, c in state["window"]), maxlen=_WINDOW)
        if state["cache"]:
            self._restore_cache(state["cache"])

    def _cache(self) -> dict[str, Any] | None:
        return self._looks.state_dict() if self._looks is not None else self._stored

    def _restore_cache(self, state: dict[str, Any]) -> None:
        """Gradients that are kept go to the method, which begins with ``attach``."""
        self._stored = state
        if self._looks is not None:
            self._looks.load_state_dict(state)
            self._stored = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_looks": None, "_exact": None, "_stored": self._cache()}
