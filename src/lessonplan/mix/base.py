"""What every mix is: one call, one generator, one state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lessonplan.errors import ConfigError
from lessonplan.mix import functional as F
from lessonplan.network.network import Network
from lessonplan.network.passes import Passes
from lessonplan.parts.part import Occasion, Part
from lessonplan.seeds import fold_seed

StepResult = Literal["improved", "waiting", "switched"]


@dataclass(frozen=True)
class SwitchEffects:
    """What begins anew with a new stage of a mix: the optimizer's state, the learning-rate schedule."""

    reset_optimizer: bool = False
    restart_lr: bool = False


class _KnowsClasses:
    """Not a dataclass, so that each mix places ``num_classes`` among its own arguments."""

    num_classes: int | None


@dataclass(eq=False, kw_only=True)
class Mix(_KnowsClasses, Part, ABC):
    """A rule that turns a batch into a mixed batch with soft targets: ``x, target = mix(x, y)``.

    ``x`` is ``(N, ...)`` of any rank and dtype (integer images are promoted to float32); ``y`` is ``(N,)``
    integer or ``(N, C)`` float. ``target`` is always ``(M, C)`` float. The inputs are never changed.

    Args:
        num_classes: C; needed for integer labels (``fit`` fills it in).
        seed: start of the mix' own generator, which is part of ``state_dict``; None derives it from the
            name of the class. In a DataLoader's worker the generator also depends on the worker.
        check: look for NaN and infinite input in every batch.
    """

    STATE: ClassVar[tuple[str, ...]] = ("generator", "children=_children")
    chain: ClassVar[Callable[[Sequence[Mix]], Mix]]
    """What ``>>`` makes: a mix itself, and so above this one (``mix.combine``)."""
    changes: ClassVar[bool] = True
    """Whether it makes other samples than it is given."""
    seed: int | None = None
    check: bool = False

    def __post_init__(self) -> None:
        self.generator = torch.Generator()
        self._worker_seed: int | None = None
        self._stream = 0
        self.reseed(self.seed if self.seed is not None else 0)

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch; see the class for shapes.

        Raises:
            ConfigError: the batch is empty, lengths differ, labels lie outside [0, num_classes), the number
                of classes is unknown, or (with ``check``) a value is not finite.
        """
        self._validate(x, y)
        self._follow_worker()
        mixed, target = self._mix(x if x.is_floating_point() else x.float(), y)
        return mixed, target.clone() if target is y else target

    @abstractmethod
    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch that was checked, ``x`` floating point; see the class for shapes."""

    def _check_shape(self, x: Tensor) -> None:
        """Raise a ``ConfigError`` if a batch of this shape cannot be mixed (mixes that need a network)."""

    # -- what a trainer tells a mix ------------------------------------------------------------------

    def advance(self, progress: float, *, epoch_start: bool = True) -> bool:
        """Say how much of the budget is used; true when the mix moved on to a new stage.

        Args:
            progress: share of the budget used so far, in [0, 1].
            epoch_start: whether an epoch begins here (some mixes change between epochs only).
        """
        switched = [child.advance(progress, epoch_start=epoch_start) for child in self.children()]
        return any(switched)

    def step(self, metric: float) -> StepResult:
        """Hear a validation metric, higher is better; ``"switched"`` when the mix moved to a new stage."""
        results = [child.step(metric) for child in self.children()]
        return next((r for r in ("switched", "improved") if r in results), "waiting")

    def setup(self, occasion: Occasion) -> None:
        """Hear of the run it is for."""
        self.finish_setup(occasion.num_classes, occasion.seed)

    def finish_setup(self, num_classes: int, seed: int) -> None:
        """Fill in what a trainer knows: the number of classes where none was given, and the run's seed."""
        if self.num_classes is None:
            self.num_classes = num_classes
        for child in self.children():
            child.finish_setup(num_classes, seed)
        self.reseed(seed if self.seed is None else self.seed)

    def attach(self, network: Network) -> None:
        """Hear of the network that the samples are for; most mixes have no use for it."""
        for child in self.children():
            child.attach(network)

    def rehearse(self, x: Tensor, y: Tensor) -> None:
        """Raise what a call with such a batch would raise, as far as that can be known without a network.

        The mix is as before afterwards.
        """
        if self.needs_network():
            self._validate(x, y)
            self._check_shape(x)
            for child in self.children():
                child.rehearse(x, y)
        else:
            state = self.state_dict()
            self(x, y)
            self.load_state_dict(state)

    def children(self) -> Iterator[Mix]:
        """The mixes this one is made of."""
        yield from ()

    # -- what a mix tells a trainer ------------------------------------------------------------------

    def draws(self, batch_size: int) -> int:
        """How many raw samples a trainer should draw for its batch size."""
        return batch_size

    def current_k(self) -> int:
        """How many images a mixed one is made of at present."""
        return 1

    def describe(self) -> dict[str, Any]:
        """What is worth a place in the log at present."""
        return {}

    def effects_of_switch(self) -> SwitchEffects:
        """What a trainer should do when ``step`` or ``advance`` announce a new stage."""
        effects = [child.effects_of_switch() for child in self.children()]
        return SwitchEffects(
            reset_optimizer=any(e.reset_optimizer for e in effects),
            restart_lr=any(e.restart_lr for e in effects),
        )

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """What goes around the network's forward pass on the batch mixed last: ``with mix.forward_context():``.

        It does nothing, unless a mix goes on inside the network (``ManifoldMixup``).
        """
        with ExitStack() as stack:
            for child in self.children():
                stack.enter_context(child.forward_context())
            yield

    def take_passes(self) -> Passes:
        """The passes through the network that the mix made itself since it was asked last."""
        total = Passes()
        for child in self.children():
            total = total.plus(child.take_passes())
        return total

    def reaches_inside(self) -> bool:
        """Whether it goes on inside the network's forward pass, so that nothing may be mixed after it."""
        return any(child.reaches_inside() for child in self.children())

    def needs_network(self) -> bool:
        """Whether the mix cannot work before ``attach``."""
        return any(child.needs_network() for child in self.children())

    def needs_validation(self) -> bool:
        """Whether the mix gets stuck without a validation metric."""
        return any(child.needs_validation() for child in self.children())

    def _shown(self) -> dict[str, Any]:
        # How many classes there are is the data's.
        return {name: value for name, value in self.given_options().items() if name != "num_classes"}

    def __rshift__(self, other: Mix) -> Mix:
        """This mix, then the other one on what it gives: ``Mixup() >> Cutout()``."""
        return type(self).chain([self, other])

    # -- state ---------------------------------------------------------------------------------------

    @property
    def _children(self) -> list[Mix]:
        return list(self.children())

    def reseed(self, seed: int) -> None:
        """Restart the generators, this one's and those of the children that have no seed of their own.

        Mixes of different kinds, and children at different positions, get different streams from one seed.
        """
        self._stream = fold_seed(seed, type(self).__name__)
        self.generator.manual_seed(self._stream)
        for position, child in enumerate(self.children()):
            if child.seed is None:
                child.reseed(fold_seed(seed, "child", position))

    # -- help for the kinds of mixes -----------------------------------------------------------------

    def _targets(self, y: Tensor) -> Tensor:
        return F.soft_targets(y, self._classes(y))

    def _classes(self, y: Tensor) -> int:
        if y.is_floating_point():
            return y.shape[1]
        if self.num_classes is None:
            raise ConfigError(
                f"{type(self).__name__} got integer labels and does not know how many classes there are:"
                " give num_classes=..., or soft targets of shape (N, C)"
            )
        return self.num_classes

    def _permutations(self, count: int, n: int, device: torch.device) -> Tensor:
        drawn = torch.rand(count, n, generator=self.generator).argsort(1)
        return drawn.to(device, non_blocking=True)

    def _dirichlet(self, alpha: float, count: int, k: int) -> Tensor:
        """``(k, count)``: columns from a symmetric Dirichlet; with k = 2 the rows are Beta(alpha, alpha)."""
        concentration = torch.full((count, k), alpha, dtype=torch.float64)
        return torch._sample_dirichlet(concentration, generator=self.generator).T

    def _validate(self, x: Tensor, y: Tensor) -> None:
        name = type(self).__name__
        if len(x) == 0:
            raise ConfigError(f"{name} got an empty batch: give at least one sample")
        if len(x) != len(y):
            raise ConfigError(f"{name} got {len(x)} inputs and {len(y)} labels: give as many labels as inputs")
        if y.ndim != (2 if y.is_floating_point() else 1):
            raise ConfigError(
                f"{name} got labels of shape {tuple(y.shape)} and type {y.dtype}: give integer labels (N,)"
                " or float targets (N, C)"
            )
        classes = self._classes(y)
        if torch.compiler.is_compiling():
            return
        # On an accelerator reading a value back stalls the queue, so there the check is on request.
        if not y.is_floating_point() and (y.device.type == "cpu" or self.check):
            low, high = (int(v) for v in torch.aminmax(y))
            if low < 0 or high >= classes:
                raise ConfigError(
                    f"{name} got labels from {low} to {high}, but num_classes={classes} allows 0 to {classes - 1}"
                )
        if self.check and not (torch.isfinite(x).all() and torch.isfinite(y).all()):
            raise ConfigError(f"{name} got NaN or infinite values in this batch: mend the data before mixing")

    def _follow_worker(self) -> None:
        """In a DataLoader's worker, give each worker and epoch a stream of its own."""
        if torch.compiler.is_compiling():
            return
        worker = get_worker_info()
        if worker is not None and worker.seed != self._worker_seed:
            self._worker_seed = worker.seed
            self.generator.manual_seed(fold_seed(worker.seed, self._stream))
