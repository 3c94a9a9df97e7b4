"""A plan in a training loop of one's own: selection, ordering and mixing together."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lessonplan.batch import Batch, Samples
from lessonplan.errors import ConfigError
from lessonplan.mix.base import StepResult
from lessonplan.mix.stages import Stages
from lessonplan.network.accelerator import device_of
from lessonplan.network.counters import Counters
from lessonplan.network.learner import Learner, Step, soft
from lessonplan.network.network import LossFunction, Network, soft_cross_entropy
from lessonplan.network.passes import Passes
from lessonplan.parts.part import Occasion
from lessonplan.parts.state import Stateful
from lessonplan.plan import Plan
from lessonplan.select.stages import Selectable
from lessonplan.supply.epoch import Mixed, Supply
from lessonplan.supply.tensors import Given, as_samples

if TYPE_CHECKING:
    from lessonplan.data import Data


class Weighted(NamedTuple):
    """A batch for a loop of one's own.

    Attributes:
        x: ``(M, ...)``.
        target: ``(M,)`` labels where nothing is mixed, else ``(M, C)`` soft targets.
        weights: ``(M,)`` float32 factors of the losses.
    """

    x: Tensor
    target: Tensor
    weights: Tensor


class Batches(Stateful):
    """Batches by a plan; an iteration is an epoch, and the next one goes on where the last was left.

    Attributes:
        epoch: the present one, from 0; as many as ``epochs`` when all are over.
        counters: what was spent: updates, sample passes, cost, raw samples.
        supply: what hands out the batches; ``supply.tally`` says how many candidates were accepted.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "_in_epoch", "_starved", "_heard", "counters", "supply", "mix=supply.mix", "stage_best=_stages.best",
    )  # fmt: skip

    def __init__(
        self,
        model: nn.Module,
        data: Data | Given,
        plan: Plan | str | Selectable | None,
        *,
        batch_size: int,
        epochs: int,
        optimizer: torch.optim.Optimizer | None = None,
        scaler: torch.amp.GradScaler | None = None,
        validation: Given | None = None,
        loss: LossFunction = soft_cross_entropy,
        seed: int = 0,
    ) -> None:
        if isinstance(data, DataLoader) and data.batch_size != batch_size:
            if data.batch_size is None:
                raise ConfigError(
                    "the DataLoader has no batch size (a batch_sampler decides, or nobody), and here the plan"
                    " decides: give its data set, loader.dataset"
                )
            raise ConfigError(
                f"the DataLoader makes batches of {data.batch_size}, and batch_size={batch_size} was given: give"
                " the same, or its data set, loader.dataset"
            )
        train, held_out = _parts(data, validation, device_of(model))
        self.data, self.batch_size, self.epochs, self._loss = train, batch_size, epochs, loss
        chosen = _as_plan(plan)
        if chosen.order is not None and chosen.order.needs_network() and optimizer is None:
            raise ConfigError(f"the order {chosen.order} looks at the network and its updates: give optimizer=...")
        self.supply = Supply(train, seed=seed, select=chosen.select, order=chosen.order, mix=chosen.mix)
        self.supply.setup(Occasion(seed, train, held_out, train.num_classes))
        self._stages = Stages(self.supply.mix, model, optimizer)
        learner = Learner(Network(model, loss), optimizer or torch.optim.SGD([torch.zeros(1)], lr=0.0), scaler)
        self.supply.attach(learner)
        self.counters = Counters()
        self._in_epoch = self._starved = False
        self._last: Batch | None = None
        self._observed = True
        self._heard = not self.supply.mix.needs_validation()

    @property
    def progress(self) -> float:
        """How much of the run is over, in [0, 1]."""
        return min(1.0, self.counters.epochs / self.epochs)

    @property
    def epoch(self) -> int:
        """The present epoch, from 0."""
        return self.counters.epoch

    @property
    def over(self) -> bool:
        """Whether all epochs are over, or a selection kept nothing for a whole one."""
        return self.epoch >= self.epochs or self._starved

    def __iter__(self) -> Iterator[Weighted]:
        """Samples, targets and factors of their losses of what is left of an epoch; factors are ones by default.

        Raises:
            ConfigError: all epochs are over, or the loop forgot ``observe`` or ``step``.
        """
        if self._starved:
            return
        if self.over:
            raise ConfigError(f"all {self.epochs} epochs are over: make the loop with more of them")
        if not self._in_epoch:
            self._start_epoch()
        with closing(self.supply.batches()) as supplied:
            self.supply.advance(self.progress)
            for batch in supplied:
                if batch is not None:
                    self._check_observed()
                    self._last, self._observed = batch, not self._remembers
                    mixed = self.supply.mixed(batch)
                    self.counters.trained(Passes.both(len(mixed.x)))
                    self._count()
                    yield Weighted(mixed.x, mixed.target, _ones(mixed))
                else:
                    self._count()
                self.supply.advance(self.progress)
        self._check_observed()
        self._count()
        self.counters.epoch, self.counters.epoch_share, self._in_epoch = self.epoch + 1, 0.0, False
        self._starved = self.supply.starved

    def __len__(self) -> int:
        """Batches of an epoch.

        Raises:
            TypeError: a selection decides that as it goes.
        """
        if any(True for _ in self.supply.select.stages()):
            raise TypeError("a selection decides how many batches an epoch has: there is no number before its end")
        return math.ceil(len(self.data) / self.supply.mix.draws(self.batch_size))

    def forward(self) -> AbstractContextManager[None]:
        """What goes around the network's forward pass on a batch, for mixes that go on inside it::

        with loop.forward():
            logits = model(x)
        """
        return self.supply.mix.forward_context()

    def observe(self, logits: Tensor) -> None:
        """Tell parts that remember (InfoBatch and its like) what the network said of the last batch.

        Args:
            logits: ``(M, C)``, before the update.
        """
        if self._last is None:
            raise ConfigError("observe was called before the first batch: call it after each update")
        logits = logits.detach().float()
        if self.supply.mix.changes:  # what is remembered is asked anew, of the samples as they are
            losses = logits.new_zeros(len(logits))
        else:
            _, y = self._last.read(self.data)
            losses = self._loss(logits, soft(y, logits.shape[1])).detach()
        self.supply.observe(self._last, Step(logits, losses))
        self._observed = True
        self._count()

    def step(self, metric: float) -> StepResult:
        """Say a validation metric, higher is better, once an epoch: a cascade moves on by it.

        Returns:
            ``"improved"`` (these weights are kept), ``"switched"`` (a new stage: the best weights of the last one
            are put back, and the optimizer, where it was given, starts anew as the cascade says; a schedule of the
            learning rate is the loop's), or ``"waiting"``.
        """
        self._heard = True
        return self._stages.step(metric)

    @property
    def _remembers(self) -> bool:
        return self.supply.select.remembers

    def _check_observed(self) -> None:
        if not self._observed:
            raise ConfigError(
                "the selection remembers what the network said: call observe(logits) after each update"
            )

    def _start_epoch(self) -> None:
        if not self._heard and self.epoch > 0:
            raise ConfigError(
                "the cascade switches on plateaus of a validation metric: call step(metric) after each epoch, or"
                " let it switch by shares of the budget"
            )
        self._heard = not self.supply.mix.needs_validation()
        if self.supply.start_epoch(
            self.epoch, self.batch_size, progress=self.progress, epochs=self.counters.epochs
        ):
            self._stages.begin()
        self._in_epoch = True

    def _count(self) -> None:
        raw, passes = self.supply.spent()
        self.counters.raw_samples += raw
        self.counters.passed(passes)
        self.counters.count_epochs(len(self.data))

    def _restored(self) -> None:
        self._last, self._observed = None, True


class SelectedBatches(Batches):
    """The same for a selection alone; one iteration goes through all epochs that are left."""

    def __iter__(self) -> Iterator[Weighted]:
        """Samples, labels and factors of their losses.

        Raises:
            ConfigError: all epochs are over: a framework that iterates once an epoch would go on with none.
        """
        if self.over and not self._starved:
            raise ConfigError(
                f"all {self.epochs} epochs went by in one iteration: for a loop that iterates once an epoch take"
                " lp.batches, whose iteration is an epoch"
            )
        while not self.over:
            yield from super().__iter__()


def batches(
    model: nn.Module,
    data: Data | Given,
    plan: Plan | str | Selectable | None = None,
    *,
    epochs: int,
    batch_size: int = 100,
    optimizer: torch.optim.Optimizer | None = None,
    scaler: torch.amp.GradScaler | None = None,
    validation: Given | None = None,
    loss: LossFunction = soft_cross_entropy,
    seed: int = 0,
) -> Batches:
    """Batches by a plan, for a loop of one's own::

        loop = lp.batches(model, data, plan, batch_size=64, epochs=20, optimizer=optimizer)
        for _ in range(20):
            for x, target, weights in loop:
                with loop.forward():
                    logits = model(x)
                losses = F.cross_entropy(logits, target, reduction="none")
                optimizer.zero_grad()
                (losses * weights).mean().backward()
                optimizer.step()
                loop.observe(logits)

    The same plan, seed and settings train as ``fit`` does, but that a look-ahead's winner is trained on anew.

    Args:
        model: from samples to logits ``(N, C)``; asked for scores as it is at that moment, left as it was.
        data: what ``lessonplan.data.load`` returned, samples by position, tensors ``(x, y)``, a map-style
            ``Dataset`` of such pairs, or a ``DataLoader``, whose data set, ``collate_fn`` and workers are used.
        plan: a plan, its text, or a selection; it is copied, so that its state belongs to this loop.
        epochs: passes over the raw data in all; schedules and shares of the budget follow them.
        batch_size: samples drawn for an update, at least 1.
        optimizer: for orders that look at the network.
        scaler: the loop's gradient scaler, for look-ahead.
        validation: where ``on=external`` draws the external batch from; the data's own if not given.
        loss: what is minimised, ``(logits (N, C), target (N, C)) -> (N,)``.
        seed: of all draws.

    Returns:
        an iterable of ``x``, ``target``, ``weights`` with ``state_dict``, ``observe``, ``step`` and ``counters``.

    Raises:
        ConfigError: a setting that cannot be used.

    >>> import lessonplan as lp
    >>> data = lp.data.load("digits", per_class=10, val_fraction=0.2)
    >>> model = lp.models.build_model("fcnet-8", shape=(1, 8, 8), num_classes=10, seed=0)
    >>> loop = lp.batches(model, data, "select:accuracy + mixup", batch_size=20, epochs=1)
    >>> [tuple(target.shape) for x, target, weights in loop][0]
    (20, 10)
    """
    _check(batch_size, epochs)
    return Batches(
        model,
        data,
        plan,
        batch_size=batch_size,
        epochs=epochs,
        optimizer=optimizer,
        scaler=scaler,
        validation=validation,
        loss=loss,
        seed=seed,
    )


def selected_batches(
    model: nn.Module,
    data: Data | Given,
    selection: Selectable,
    *,
    batch_size: int = 100,
    epochs: int = 1,
    loss: LossFunction = soft_cross_entropy,
    seed: int = 0,
) -> SelectedBatches:
    """Selected batches for a loop of one's own; ``lp.batches`` does the same for a whole plan.

    Args:
        model, data, batch_size, epochs, loss, seed: see ``lp.batches``.
        selection: filters and selectors, or ``Epochwise`` or ``Batchwise`` around them.

    Returns:
        an iterable of ``x, y, weights`` over all epochs; multiply losses by ``weights``.

    >>> import lessonplan as lp
    >>> data = lp.data.load("digits", per_class=10).train
    >>> model = lp.models.build_model("fcnet-8", shape=(1, 8, 8), num_classes=10, seed=0)
    >>> [len(y) for x, y, w in selected_batches(model, data, lp.select.AccuracyFilter(), batch_size=20)][0]
    20
    """
    _check(batch_size, epochs)
    return SelectedBatches(model, data, selection, batch_size=batch_size, epochs=epochs, loss=loss, seed=seed)


def _check(batch_size: int, epochs: int) -> None:
    if batch_size < 1 or epochs < 1:
        raise ConfigError(f"batch_size={batch_size}, epochs={epochs}: give 1 or more")


def _as_plan(plan: Plan | str | Selectable | None) -> Plan:
    if isinstance(plan, str):
        return Plan.parse(plan)
    if isinstance(plan, Plan):
        return plan.copy()
    return Plan(select=copy.deepcopy(plan))


def _parts(data: Any, validation: Any, place: torch.device) -> tuple[Samples, Samples | None]:
    """Training and validation samples, where the network is; what was not put elsewhere follows it."""
    if hasattr(data, "train") and hasattr(data, "val"):
        data = data if data.placed else data.on(place)
        data, validation = data.train, data.val if validation is None else validation
    return as_samples(data, place), as_samples(validation, place) if validation is not None else None


def _ones(mixed: Mixed) -> Tensor:
    """The factors of the losses on the samples' device."""
    if mixed.weights is None:
        return torch.ones(len(mixed.x), dtype=torch.float32, device=mixed.x.device)
    return mixed.weights.to(mixed.x.device)
