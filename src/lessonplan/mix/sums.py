"""Sum augmentation: a new sample is the average of K samples (thesis section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lessonplan.errors import require
from lessonplan.mix import functional as F
from lessonplan.mix.base import factors_carried
from lessonplan.mix.hidden import INPUT, HiddenMix
from lessonplan.mix.memory import channels_last

Coefficients = Callable[[int, int, torch.Generator], Tensor]
"""``(k, M, generator) -> weights (k, M)``, each column summing to 1."""


@dataclass(eq=False)
class SumAugment(HiddenMix):
    """Average K samples, inputs and labels alike (thesis section 3.3).

    Args:
        k: how many samples make a new one, 1 <= k <= N.
        num_classes: see ``Mix``.
        pairing: ``"groups"`` cuts the batch into k groups and sums them, so that N samples give N / k (the
            thesis); ``"permute"`` sums the batch and k - 1 permutations of it and keeps N samples.
        coefficients: ``"uniform"``, 1/k each (the thesis); ``"dirichlet"``, drawn for every new sample with
            concentration ``alpha`` (for k = 2 this is mixup); or a function ``(k, M, generator) -> (k, M)``.
        alpha: concentration of the Dirichlet distribution, above 0.
        labels: ``"average"``; ``"first"``, the label of the sum's first image alone, whatever its weight, as
            SamplePairing has it (the thesis, section 3.2: a considerable drop); or ``"union"``, the element-wise
            maximum, for multi-label data.
        remainder: what becomes of N mod k samples in groups: ``"wrap"`` fills the last group from the
            batch's start, ``"drop"`` leaves them out (the thesis).
        draw: what a trainer's batch size counts: ``"raw"`` samples, so that an update sees batch / k mixed
            ones (the thesis), or ``"mixed"``, so that it draws k times as many.
        layers: names of modules whose output is summed, and ``"input"``, of which one is drawn for each batch
            (proposed in the thesis, section 3.2); with ``pairing="permute"``. None sums inputs. Hidden states are
            summed inside of ``forward_context``, see ``ManifoldMixup``.
        model, loss: see ``ModelAwareMix``; the loss is not used.

    >>> mix = SumAugment(2, num_classes=2)
    >>> mix(torch.tensor([0.0, 2.0, 4.0, 6.0]), torch.tensor([0, 0, 0, 1]))
    (tensor([2., 4.]), tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]]))
    """

    name: ClassVar[str] = "sum"
    k: int = 4
    num_classes: int | None = None
    pairing: Literal["groups", "permute"] = "groups"
    coefficients: Literal["uniform", "dirichlet"] | Coefficients = "uniform"
    alpha: float = 1.0
    labels: Literal["average", "first", "union"] = "average"
    remainder: Literal["wrap", "drop"] = "wrap"
    draw: Literal["raw", "mixed"] = "raw"
    layers: Sequence[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.k >= 1, f"k={self.k} images cannot be summed: give k of at least 1")
        require(
            0 < self.alpha < math.inf,
            f"alpha={self.alpha} is no concentration: give a finite number above 0",
        )
        require(self.pairing in ("groups", "permute"), f"pairing={self.pairing!r}: give groups or permute")
        rules = ("average", "first", "union")
        require(self.labels in rules, f"labels={self.labels!r}: give average, first or union")
        require(self.remainder in ("wrap", "drop"), f"remainder={self.remainder!r}: give wrap or drop")
        require(self.draw in ("raw", "mixed"), f"draw={self.draw!r}: give raw or mixed")
        require(
            callable(self.coefficients) or self.coefficients in ("uniform", "dirichlet"),
            f"coefficients={self.coefficients!r}: give uniform, dirichlet or a function",
        )
        check_pairing(self.pairing, self.layers)

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        layer = INPUT if self.layers is None else self._draw_layer()
        k = self._fitting(len(x), self.k)
        if k == 1:
            return self._copy(x), self._targets(y)
        return self._permute(x, y, k, layer) if self.pairing == "permute" else self._group(x, y, k)

    def _group(self, x: Tensor, y: Tensor, k: int) -> tuple[Tensor, Tensor]:
        fit = F.wrap_to_groups if self.remainder == "wrap" else F.drop_to_groups
        x, y = fit(x, k), fit(y, k)
        if self.coefficients == "uniform":
            mixed, weights = F.group_mean(x, k), F.equal_weights(k)
        else:
            weights = self._draw_weights(k, len(x) // k)
            mixed = F.group_sum(x, weights)
        mixed = like(x, mixed)
        if self._unites:
            return mixed, F.group_union(self._targets(y), k)
        if self.labels == "first":
            return mixed, self._targets(F.first_group(y, k))
        if y.is_floating_point():
            return mixed, F.group_sum(y, weights)
        return mixed, F.group_label_mass(y, weights, self._classes(y))

    def _permute(self, x: Tensor, y: Tensor, k: int, layer: str) -> tuple[Tensor, Tensor]:
        permutations = self._permutations(k - 1, len(x), x.device)
        uniform = self.coefficients == "uniform"
        weights = F.equal_weights(k) if uniform else self._draw_weights(k, len(x))
        mixed, target = self._blend(layer, x, permutations, weights), self._targets(y)
        if self.labels == "first":
            return mixed, target
        if self._unites:
            return mixed, torch.stack([target, *(target[p] for p in permutations)]).amax(0)
        return mixed, F.permuted_sum(target, permutations, weights)

    @property
    def _unites(self) -> bool:
        """Whether labels are united; factors of losses are averaged all the same."""
        return self.labels == "union" and not factors_carried()

    def keeps_factors(self) -> bool:
        """False of united labels, whose rows sum to the number of classes."""
        return self.labels != "union"

    def _draw_weights(self, k: int, count: int) -> Tensor:
        if self.coefficients == "dirichlet":
            return self._dirichlet(self.alpha, count, k)
        assert callable(self.coefficients)
        weights = self.coefficients(k, count, self.generator)
        require(
            tuple(weights.shape) == (k, count),
            f"the coefficients function gave shape {tuple(weights.shape)}: give (k, M) = ({k}, {count})",
        )
        return weights

    def draws(self, batch_size: int) -> int:
        """k times the batch size with ``draw="mixed"``; the batch size otherwise."""
        shrinks = self.pairing == "groups" and self.draw == "mixed"
        return batch_size * self.k if shrinks else batch_size

    def current_k(self) -> int:
        """As many images as a sum is made of."""
        return self.k

    def describe(self) -> dict[str, Any]:
        """``{"k": k}``."""
        return {"k": self.k}


def check_pairing(pairing: str, layers: Sequence[str] | None) -> None:
    """Raise a ``ConfigError`` where sums in hidden layers would shorten the batch."""
    require(
        layers is None or pairing == "permute",
        f"layers={'/'.join(layers or ())} with pairing={pairing}: sums in layers keep the batch's length, add"
        " pairing=permute",
    )


def like(x: Tensor, mixed: Tensor) -> Tensor:
    """The mixed images in the memory format of the images they are of."""
    if x.is_contiguous() or not channels_last(x):
        return mixed
    return mixed.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
