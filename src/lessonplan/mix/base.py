"""What every mix is: one call, one generator, one state."""

from __future__ import annotations

import functools
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.mix import functional as F
from lessonplan.mix.memory import Memory, direct
from lessonplan.mix.permutations import permutations
from lessonplan.network.network import Network
from lessonplan.network.passes import Passes
from lessonplan.parts.part import Occasion, Part
from lessonplan.seeds import fold_seed
from lessonplan.shown import notebook_html

StepResult = Literal["improved", "waiting", "switched"]


_rehearsing = ContextVar("rehearsing", default=False)
_factored = ContextVar("factored", default=False)
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # which PyTorch can compare, and little else
_SMALL_ALPHA = 0.01  # below it, samples of Gamma(alpha) underflow now and then


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

    It is a ``collate_fn`` as well: ``DataLoader(dataset, batch_size=64, collate_fn=mix)``.

    ``x`` is ``(N, ...)`` of any rank and dtype (integer images are promoted to float32); ``y`` is ``(N,)``
    integer or ``(N, C)`` float. ``target`` is always ``(M, C)`` float. The inputs are never changed.

    Args:
        num_classes: C; needed for integer labels (``fit`` fills it in).
        seed: start of the mix' own generator, which is part of ``state_dict``; None derives it from the
            name of the class. In a DataLoader's worker the generator also depends on the worker.
        check: look for NaN and infinite input in every batch.
        reuse: write a batch into the memory of the batch before, where a loop has no use for it any more (most
            of a mix' time on a CPU goes into new memory). What a call gave is then overwritten by the next one:
            not for batches that are collected or prepared ahead. A backward pass through an overwritten batch
            raises an error. Memory is new where it does not fit (type, shape, layout, a batch that wants
            gradients), on accelerators, and in workers; sums, which are a k-th of a batch, and mixes that look at
            the network always make new memory. Targets are always new. Without it a batch of 4 MiB and more
            lies where an earlier one lay that nobody holds any more: up to two are kept for that. PyTorch cannot
            resize such a batch in place (``resize_``).
    """

    _lent: ClassVar[tuple[str, ...]] = ("_memory",)
    STATE: ClassVar[tuple[str, ...]] = ("generator", "children=_children")
    chain: ClassVar[Callable[[Sequence[Mix]], Mix]]
    """What ``>>`` makes: a mix itself, and so above this one (``mix.combine``)."""
    changes: ClassVar[bool] = True
    """Whether it makes other samples than it is given."""
    seed: int | None = None
    check: bool = False
    reuse: bool = field(default=False, repr=False)  # what comes out is the same: no part of the identity
    _repr_html_ = notebook_html
    _together = False  # whether all ranks draw the same

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in ("advance", "step"):
            if name in vars(cls):
                setattr(cls, name, _told(vars(cls)[name]))

    def __post_init__(self) -> None:
        self.generator = torch.Generator()
        self._place: tuple[int | None, int] = (None, 0)
        self._stream = 0
        self._heard = 0
        self._once_fit = False
        self._unaware = True  # of where soft targets come from
        self._memory: Memory | None = None
        self._mixed_k: int | None = None  # of the last batch, until it is done with
        numbers = 1 + len(self._numbers())
        self._shared = torch.zeros(numbers, dtype=torch.float64, device="cpu").share_memory_()
        self.reseed(self.seed if self.seed is not None else 0)
        if self.reuse:
            self.reuse_memory()

    def __call__(self, x: Tensor | Sequence[Any], y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix a batch; see the class for shapes.

        Args:
            x: inputs; or, without ``y``, a pair ``(x, y)``, or samples ``(x, y)`` as a DataLoader's worker has
                them.
            y: labels or targets.

        Raises:
            ConfigError: the batch is empty, lengths differ, labels lie outside [0, num_classes), the number
                of classes is unknown, samples are no pairs, numbers are complex, or (with ``check``) a value is
                not finite.
        """
        x, y = batch_of(x, y)
        y = y.long() if y.dtype in _UNSIGNED else y
        self._validate(x, y)
        self._follow_worker()
        if self._unaware and y.is_floating_point() and not torch.compiler.is_compiling():
            self._wonder_at(y)
        for child in self.children():
            child.expect_soft_targets()
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

    def reuse_memory(self, allowed: bool = True) -> None:
        """Say whether a batch may be written into the memory of the one before; see ``reuse``.

        ``fit`` says so by itself: nobody reads a batch after its update.
        """
        self.reuse, self._memory = allowed, None
        for child in self.children():
            child.reuse_memory(allowed)

    def draw_together(self, together: bool) -> None:
        """Say whether all ranks draw the same, for they mix the same batch, or each apart from the others."""
        self._together = together
        self._follow_worker()
        for child in self.children():
            child.draw_together(together)

    def attach(self, network: Network) -> None:
        """Hear of the network that the samples are for; most mixes have no use for it."""
        for child in self.children():
            child.attach(network)

    def done_with_batch(self) -> None:
        """Say that the update is over: what ``mixed_k`` says next is of no batch."""
        self._mixed_k = None
        for child in self.children():
            child.done_with_batch()

    def blended_factors(self, x: Tensor, y: Tensor) -> Tensor:
        """How the next call blends the factors of its samples' losses; the mix is as before.

        Args:
            x: what the next call gets, ``(N, ...)``.
            y: labels times factors, ``(N, C)``, whose rows sum to the factors.

        Returns:
            ``(M,)``, one a mixed sample.
        """
        state = self.state_dict()
        with carrying_factors():
            _, mixed = self(x, y)
        self.load_state_dict(state)
        return mixed.sum(1)

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
            state, token = self.state_dict(), _rehearsing.set(True)
            try:
                self(x, y)
            finally:
                _rehearsing.reset(token)
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

    def mixed_k(self) -> int:
        """How many images a sample of the batch mixed last was made of.

        That is ``current_k``, unless the batch had fewer samples, or was left as it was. A mix that works in a
        DataLoader's workers says ``current_k`` in the main process.
        """
        return self.current_k() if self._mixed_k is None else self._mixed_k

    def keeps_factors(self) -> bool:
        """Whether labels times factors become targets times factors, see ``carrying_factors``."""
        return all(child.keeps_factors() for child in self.children())

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

    def reset(self) -> None:
        """Go back to the beginning, for another training with the same object (a fold, a seed).

        Cascades do so themselves when ``advance`` hears of no progress after some.
        """
        started = self._started
        fresh = type(self)(**self._options_at_start())
        for child in self.children():
            child.reset()
        self.load_state_dict(fresh.state_dict())
        self.reseed(started)  # the fresh one, which is made of the same mixes, has given them seeds

    def _options_at_start(self) -> dict[str, Any]:
        """The options that it was made with."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init}

    def _numbers(self) -> list[str]:
        """The declared attributes that ``advance`` and ``step`` change, which workers must hear of."""
        places = [entry.rpartition("=")[2] for cls in type(self).__mro__ for entry in vars(cls).get("STATE", ())]
        return [place for place in places if place not in ("generator", "_children")]

    def _tell(self) -> None:
        """Show workers, in memory that they share, what ``advance`` or ``step`` has changed."""
        if get_worker_info() is not None:
            return  # what a worker has heard of may be old by now
        values = [getattr(self, name) for name in self._numbers()]
        if values and all(isinstance(value, (bool, int, float)) for value in values):
            self._shared[1:] = torch.tensor(values, dtype=torch.float64, device="cpu")
            self._shared[0] += 1

    def _hear(self) -> None:
        """In a worker: take over what the main process has told since."""
        told = int(self._shared[0])
        if told == self._heard:
            return
        self._heard = told
        for name, value in zip(self._numbers(), self._shared[1:].tolist(), strict=True):
            setattr(self, name, type(getattr(self, name))(value))
        self._restored()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave.

        Raises:
            ConfigError: the state is of another mix.
        """
        stored, here = len(state.get("children", ())), len(self._children)
        if stored != here:
            raise ConfigError(
                f"the state is of a mix of {stored} others, and {self} is one of {here}: go on with what stored"
                " it, or begin anew without a state"
            )
        super().load_state_dict(state)

    def _restored(self) -> None:
        self._mixed_k = None
        self._tell()
        self._place = (self._place[0], self._rank())  # the stream is the stored one

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not self._shared.is_shared():  # a copy; what workers get is shared
            self._shared = self._shared.clone().share_memory_()

    @property
    def _children(self) -> list[Mix]:
        return list(self.children())

    def reseed(self, seed: int) -> None:
        """Restart the generators, this one's and those of the children that have no seed of their own.

        Mixes of different kinds, and children at different positions, get different streams from one seed.
        """
        self._started = seed
        self._stream = fold_seed(seed, type(self).__name__)
        self.generator.manual_seed(self._stream)
        self._place = (None, 0)
        for position, child in enumerate(self.children()):
            if child.seed is None:
                child.reseed(fold_seed(seed, "child", position))

    # -- help for the kinds of mixes -----------------------------------------------------------------

    def _room(self, x: Tensor) -> Tensor:
        """Memory for a batch like this one, for which ``memory.direct`` is true."""
        if self._memory is None:
            self._memory = Memory()
        return self._memory.like(x, again=self.reuse)

    def _copy(self, x: Tensor) -> Tensor:
        """The batch unmixed, as a mix gives it."""
        return self._room(x).copy_(x) if direct(x) else x.clone()

    def _fitting(self, samples: int, k: int) -> int:
        """How many of ``k`` images a batch can give: fewer where it is an epoch's last, small one.

        Raises:
            ConfigError: a batch of the size that training uses has fewer (``rehearse``).
        """
        if k > samples and _rehearsing.get():
            raise ConfigError(f"k={k} is larger than the batch of {samples}: give a smaller k or a larger batch")
        self._mixed_k = min(k, samples)
        if k <= samples:
            self._once_fit = True
        elif not self._once_fit:
            self._once_fit = True  # said once
            warnings.warn(
                f"{type(self).__name__} mixes {k} images, and a batch has {samples}: it mixes these; give a"
                " smaller k, larger batches, or drop_last=True",
                LessonplanWarning,
                stacklevel=5,
            )
        return self._mixed_k

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

    def _uniform(self, *size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Drawn from [0, 1), whatever type and device a loop has made the default of its tensors."""
        return torch.rand(size, generator=self.generator, dtype=dtype, device="cpu")

    def _integer(self, below: int) -> int:
        """Drawn from 0 to ``below`` - 1."""
        return int(torch.randint(below, (), generator=self.generator, device="cpu"))

    def _permutations(self, count: int, n: int, device: torch.device) -> Tensor:
        return permutations(self._uniform(count, n)).to(device, non_blocking=True)

    def _dirichlet(self, alpha: float, count: int, k: int) -> Tensor:
        """``(k, count)``: columns from a symmetric Dirichlet; with k = 2 the rows are Beta(alpha, alpha)."""
        concentration = torch.full((count, k), alpha, dtype=torch.float64, device="cpu")
        if alpha >= _SMALL_ALPHA:
            return torch._sample_dirichlet(concentration, generator=self.generator).T
        # Nearly all would be 0 by underflow. Gamma(alpha) is Gamma(alpha + 1) times U^(1 / alpha): as logarithms.
        gamma = torch._standard_gamma(concentration + 1.0, generator=self.generator)
        uniform = self._uniform(count, k, dtype=torch.float64)
        return (gamma.log() + uniform.clamp_(min=1e-300).log() / alpha).softmax(1).T

    def _validate(self, x: Tensor, y: Tensor) -> None:
        name = type(self).__name__
        if x.ndim == 0 or y.ndim == 0:
            raise ConfigError(f"{name} got a single number: give a batch of inputs (N, ...) and its labels (N,)")
        if x.is_complex() or y.is_complex():
            raise ConfigError(
                f"{name} got complex numbers, whose imaginary parts would be lost: give torch.view_as_real(x)"
            )
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

    def expect_soft_targets(self) -> None:
        """Take targets that are soft already without a word: whoever calls has made them so."""
        self._unaware = False

    def _wonder_at(self, y: Tensor) -> None:
        """Say once that targets are soft already: mixing in two places shows nowhere else."""
        self._unaware = False  # said once
        if bool(((y > 0) & (y < 1)).any()):
            warnings.warn(
                f"{type(self).__name__} got targets that are soft already: where another mix made them (in a"
                " collate function, and this one in the loop), samples are mixed twice, so mix in one place (or"
                " write a >> b); soft labels of your own are mixed as they are",
                LessonplanWarning,
                stacklevel=3,
            )

    def _rank(self) -> int:
        return 0 if self._together else _rank()

    def _follow_worker(self) -> None:
        """Draw apart from others with the same seed: workers of a DataLoader, epoch by epoch, and ranks.

        Raises:
            ConfigError: the mix needs the network, in a worker, which has a copy of before.
        """
        if torch.compiler.is_compiling():
            return
        worker = get_worker_info()
        if worker is not None:
            if self.needs_network():
                raise ConfigError(
                    f"{type(self).__name__} works with the network as it is now, which a DataLoader's worker does"
                    " not have: mix in the training loop"
                )
            self._hear()
        place = (worker.seed if worker is not None else None, self._rank())
        if place != self._place:
            self._place = place
            start = (self._stream,) if worker is None else (worker.seed, self._stream)
            apart = ("rank", place[1]) if place[1] else ()
            self.generator.manual_seed(fold_seed(*start, *apart) if worker is not None or apart else self._stream)


def batch_of(x: Any, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Inputs and labels as they were given: both, a pair, or samples that are put together.

    Raises:
        ConfigError: they are none of these.
    """
    if y is not None:
        for part, what, shape in ((x, "inputs", "(N, ...)"), (y, "labels", "(N,) or (N, C)")):
            if not isinstance(part, Tensor):
                raise ConfigError(f"a mix got {what} of type {type(part).__name__}: give a tensor {shape}")
        return x, y
    samples = x if isinstance(x, (list, tuple)) else ()
    if len(samples) == 2 and all(isinstance(part, Tensor) for part in samples):
        return samples[0], samples[1]
    if samples and all(isinstance(sample, (list, tuple)) and len(sample) == 2 for sample in samples):
        inputs, labels = default_collate(list(samples))
        if isinstance(inputs, Tensor) and isinstance(labels, Tensor):
            return inputs, labels
    what = type(samples[0] if samples else x).__name__
    raise ConfigError(
        f"a mix got one argument, and {what} is no sample (x, y): give mix(x, y), or as collate_fn=mix samples of"
        " an input and a label (for dictionaries: lessonplan.integrations.transformers.MixCollator)"
    )


@contextmanager
def carrying_factors() -> Iterator[None]:
    """Inside, soft targets are labels times factors of losses, so that a row sums to its sample's factor.

    A mix that keeps factors (``Mix.keeps_factors``) gives targets whose rows sum to the blended ones.
    """
    token = _factored.set(True)
    try:
        yield
    finally:
        _factored.reset(token)


def factors_carried() -> bool:
    """Whether ``carrying_factors`` is open."""
    return _factored.get()


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same method, after which workers are told."""

    @functools.wraps(method)
    def wrapped(self: Mix, *args: Any, **more: Any) -> Any:
        result = method(self, *args, **more)
        self._tell()
        return result

    return wrapped


def _rank() -> int:
    """The number of this process among those that train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0
