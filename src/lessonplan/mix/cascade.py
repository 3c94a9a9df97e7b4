"""Cascades: start with many images in a sum, end with clean ones (thesis sections 3.4 and 3.5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from lessonplan.errors import ConfigError, require
from lessonplan.mix import functional as F
from lessonplan.mix.base import StepResult, SwitchEffects
from lessonplan.mix.hidden import INPUT, HiddenMix
from lessonplan.mix.sums import SumAugment, check_pairing, like

# Rounding of t * (n-1) must not leave a group with a weight of 1e-17.
_NO_WEIGHT = 1e-12


@dataclass(eq=False)
class Cascade(SumAugment):
    """Sum augmentation whose K falls to 1 in stages (CSA, thesis section 3.4, algorithm 2).

    A stage ends when the watched validation metric has not improved for ``patience`` evaluations, or at the
    latest when its share of the budget is used. At a switch a trainer restores the stage's best weights
    (``fit`` does; in a loop of your own, keep them when ``step`` returns ``"improved"`` and put them back
    when ``step`` or ``advance`` announce a switch). The thesis watched the test set; ``fit`` reads the
    validation split.

    Args:
        k: images in a sum at the start.
        num_classes: see ``Mix``.
        patience: evaluations without improvement before the next stage; None switches by ``shares`` alone.
        shares: the latest end of each stage: ``"equal"`` parts of the budget, one number a stage (they sum to
            1), or None, no limit.
        steps: ``"halve"``, K to floor(K/2) (the thesis), or ``"decrement"``, K to K - 1.
        stop_at: the last stage's K: 1 (the thesis), or 2 for test-time sum augmentation.
        reset_optimizer: whether momentum and its like start anew at a switch.
        lr_at_switch: ``"restart"`` the learning-rate schedule over what is left of the budget, or ``"keep"``.

    The other arguments are those of ``SumAugment``.

    >>> mix = Cascade(k=8, num_classes=10, patience=1, shares=None)
    >>> mix.stages
    (8, 4, 2, 1)
    >>> mix.step(0.5), mix.step(0.4), mix.k
    ('improved', 'switched', 4)
    """

    name: ClassVar[str] = "cascade"
    STATE: ClassVar[tuple[str, ...]] = ("stage", "best", "waited")
    patience: int | None = 10
    shares: Literal["equal"] | Sequence[float] | None = "equal"
    steps: Literal["halve", "decrement"] = "halve"
    stop_at: int = 1
    reset_optimizer: bool = True
    lr_at_switch: Literal["restart", "keep"] = "restart"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps in ("halve", "decrement"), f"steps={self.steps!r}: give halve or decrement")
        require(
            self.lr_at_switch in ("restart", "keep"),
            f"lr_at_switch={self.lr_at_switch!r}: give restart or keep",
        )
        require(
            self.patience is None or self.patience >= 1,
            f"patience={self.patience}: give a number of evaluations of at least 1, or None",
        )
        require(
            1 <= self.stop_at <= self.k,
            f"a cascade from k={self.k} cannot stop at {self.stop_at}: give stop_at from 1 to k",
        )
        require(
            self.patience is not None or self.shares is not None,
            "a cascade without patience and without shares never ends its first stage: give one of them",
        )
        self.stages = cascade_stages(self.k, self.steps, self.stop_at)
        self._ends = self._stage_ends()
        self._start_k = self.k
        self.stage = 0
        self.best = -math.inf
        self.waited = 0
        self._progress = 0.0  # that was heard of last

    def _stage_ends(self) -> tuple[float, ...]:
        """The latest progress at which each stage ends."""
        count = len(self.stages)
        if self.shares is None:
            return (math.inf,) * count
        if isinstance(self.shares, str):
            require(self.shares == "equal", f"shares={self.shares!r}: give 'equal', a number a stage, or None")
            return tuple((i + 1) / count for i in range(count))
        require(
            len(self.shares) == count and min(self.shares) >= 0 and abs(sum(self.shares) - 1) < 1e-6,
            f"shares={tuple(self.shares)} for the stages {self.stages}: give one number a stage, together 1",
        )
        return tuple(sum(self.shares[: i + 1]) for i in range(count))

    def step(self, metric: float) -> StepResult:
        """Hear the watched metric of an evaluation, higher is better."""
        if math.isnan(metric):
            raise ConfigError("the watched metric is NaN: the cascade cannot tell whether training improved")
        if metric > self.best:
            self.best, self.waited = metric, 0
            return "improved"
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience and self._switch():
            return "switched"
        return "waiting"

    def advance(self, progress: float, *, epoch_start: bool = True) -> bool:
        """At an epoch's start, end every stage whose share of the budget is used up; true when one ended.

        None after some is another training: it begins with the first stage.
        """
        if progress == 0 and self._progress > 0:
            self.reset()
        self._progress = progress
        switched = False
        while epoch_start and self.stage < len(self.stages) - 1 and progress >= self._ends[self.stage] - 1e-9:
            switched = self._switch()
        return switched

    def _switch(self) -> bool:
        if self.stage == len(self.stages) - 1:
            return False
        self.stage += 1
        self.k = self.stages[self.stage]
        self.best, self.waited = -math.inf, 0
        return True

    def effects_of_switch(self) -> SwitchEffects:
        """As ``reset_optimizer`` and ``lr_at_switch`` say."""
        return SwitchEffects(self.reset_optimizer, self.lr_at_switch == "restart")

    def needs_validation(self) -> bool:
        """True without ``shares``."""
        return self.shares is None

    def describe(self) -> dict[str, Any]:
        """Stage and K."""
        return {"k": self.k, "stage": self.stage}

    def config(self) -> dict[str, Any]:
        """As in ``Mix``, with the K it starts from."""
        return {**super().config(), "k": self._start_k}

    def _restored(self) -> None:
        require(
            self.stage < len(self.stages),
            f"the state is of stage {self.stage + 1} of a cascade, and {self} has {len(self.stages)}: go on with"
            " the one that stored it, or begin anew without a state",
        )
        self.k = self.stages[self.stage]
        super()._restored()

    def _options_at_start(self) -> dict[str, Any]:
        return {**super()._options_at_start(), "k": self._start_k}


@dataclass(eq=False)
class GradualCascade(HiddenMix):
    """A cascade without jumps: one image after another fades out of the sum (GCSA, thesis section 3.5).

    The coefficients are ``functional.gcc(k, t)``. t goes from 0 to 1 over the budget less ``finetune``, and
    stays at 1 for the rest. Images whose weight has reached 0 are not drawn: the batch is then cut into
    fewer groups, or permuted less often. With ``draw="mixed"`` they are drawn until the epoch ends, for what is
    drawn is fixed for an epoch, and the batch that the network gets would grow.

    Args:
        k: images in a sum at the start.
        num_classes: see ``Mix``.
        variant: the rule of the coefficients, see ``functional.gcc``.
        finetune: the last share of the budget, in [0, 1), on clean samples.
        granularity: t changes with every ``"step"`` or, as in the thesis, with every ``"epoch"``.
        remainder: see ``SumAugment``.
        draw: see ``SumAugment``.
        labels: ``"average"``, with the images' coefficients, or ``"first"``, the label of the image that stays.
        pairing: see ``SumAugment``; the image that stays is then each sample itself.
        layers: see ``SumAugment``.
        model, loss: see ``ModelAwareMix``; the loss is not used.

    >>> import torch
    >>> mix = GradualCascade(k=2, num_classes=2, variant="linear", finetune=0.0)
    >>> _ = mix.advance(0.5)
    >>> mix(torch.tensor([0.0, 4.0]), torch.tensor([0, 1]))
    (tensor([1.]), tensor([[0.7500, 0.2500]]))
    """

    name: ClassVar[str] = "gradual"
    STATE: ClassVar[tuple[str, ...]] = ("t", "epoch_t")
    k: int = 4
    num_classes: int | None = None
    variant: F.GCCVariant = "thesis"
    finetune: float = 0.1
    granularity: Literal["step", "epoch"] = "step"
    remainder: Literal["wrap", "drop"] = "wrap"
    draw: Literal["raw", "mixed"] = "raw"
    labels: Literal["average", "first"] = "average"
    pairing: Literal["groups", "permute"] = "groups"
    layers: Sequence[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.k >= 1, f"k={self.k} images cannot be summed: give k of at least 1")
        require(0 <= self.finetune < 1, f"finetune={self.finetune} is no share: give a number in [0, 1)")
        variants = ("thesis", "progress", "linear")
        require(self.variant in variants, f"variant={self.variant!r}: give one of {', '.join(variants)}")
        require(self.granularity in ("step", "epoch"), f"granularity={self.granularity!r}: give step or epoch")
        require(self.labels in ("average", "first"), f"labels={self.labels!r}: give average or first")
        require(self.remainder in ("wrap", "drop"), f"remainder={self.remainder!r}: give wrap or drop")
        require(self.draw in ("raw", "mixed"), f"draw={self.draw!r}: give raw or mixed")
        require(self.pairing in ("groups", "permute"), f"pairing={self.pairing!r}: give groups or permute")
        check_pairing(self.pairing, self.layers)
        self.epoch_t = 0.0  # t at the start of the epoch
        self._set(0.0)

    def _set(self, t: float) -> None:
        self.t = t
        weights = F.gcc(self.k, t, self.variant)
        drawn = F.gcc(self.k, min(self.epoch_t, t), self.variant) if self._draws_more else weights
        self.weights = weights[drawn > _NO_WEIGHT]

    @property
    def _draws_more(self) -> bool:
        """Whether more samples are drawn than a batch of the network has."""
        return self.pairing == "groups" and self.draw == "mixed"

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        layer = INPUT if self.layers is None else self._draw_layer()
        weights = self._weights_for(len(x), self.weights)
        groups = len(weights)
        if groups == 1:
            return self._copy(x), self._targets(y)
        if self.pairing == "permute":
            return self._permute(x, y, weights, layer)
        fit = F.wrap_to_groups if self.remainder == "wrap" else F.drop_to_groups
        x, y = fit(x, groups), fit(y, groups)
        mixed = like(x, F.group_sum(x, weights))
        if self.labels == "first":
            return mixed, self._targets(F.first_group(y, groups))
        if y.is_floating_point():
            return mixed, F.group_sum(y, weights)
        return mixed, F.group_label_mass(y, weights, self._classes(y))

    def _permute(self, x: Tensor, y: Tensor, weights: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        partners = self._permutations(len(weights) - 1, len(x), x.device)
        mixed, target = self._blend(layer, x, partners, weights), self._targets(y)
        return mixed, target if self.labels == "first" else F.permuted_sum(target, partners, weights)

    def _weights_for(self, samples: int, weights: Tensor) -> Tensor:
        """The weights of as many images as a batch has."""
        if self._fitting(samples, len(weights)) == len(weights):
            return weights
        return weights[:samples] / weights[:samples].sum()

    def advance(self, progress: float, *, epoch_start: bool = True) -> bool:
        """Move t to where the budget is."""
        t = min(progress / (1.0 - self.finetune), 1.0)
        if epoch_start:
            self.epoch_t = t
        if epoch_start or self.granularity == "step":
            self._set(t)
        return False

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave, or gave before t at the start of the epoch was stored."""
        super().load_state_dict({"epoch_t": state.get("t"), **state})

    def draws(self, batch_size: int) -> int:
        """The current number of groups times the batch size with ``draw="mixed"``."""
        return batch_size * len(self.weights) if self._draws_more else batch_size

    def current_k(self) -> int:
        """Images that are drawn: those with a weight above 0, with ``draw="mixed"`` at the epoch's start."""
        return len(self.weights)

    def describe(self) -> dict[str, Any]:
        """t and the number of images with weight."""
        return {"k": len(self.weights), "t": self.t}

    def _restored(self) -> None:
        self._set(self.t)
        super()._restored()


def cascade_stages(k: int, steps: Literal["halve", "decrement"], stop_at: int) -> tuple[int, ...]:
    """The K of every stage of a cascade.

    >>> cascade_stages(5, "halve", 1), cascade_stages(4, "decrement", 2)
    ((5, 2, 1), (4, 3, 2))
    """
    stages = [k]
    while stages[-1] > stop_at:
        following = stages[-1] // 2 if steps == "halve" else stages[-1] - 1
        stages.append(max(following, stop_at))
    return tuple(stages)
