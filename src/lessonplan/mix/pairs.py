"""Mixes of two samples, and of a sample with nothing: mixup, CutMix, Cutout, SamplePairing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lessonplan.errors import require
from lessonplan.mix import functional as F
from lessonplan.mix import one_pass
from lessonplan.mix.base import Mix
from lessonplan.mix.one_pass import Partners, partners_of


def _require_alpha(alpha: float) -> None:
    require(
        0 < alpha < math.inf,
        f"alpha={alpha} is no parameter of a Beta distribution: give a finite number above 0",
    )


def require_images(x: Tensor, name: str) -> tuple[int, int]:
    """Height and width of images that boxes are cut out of, on behalf of ``name``."""
    shape = tuple(x.shape)
    require(x.ndim >= 3, f"{name} cuts boxes out of (N, ..., H, W) images, but the input has shape {shape}")
    require(x.numel() > 0, f"{name} got images without a pixel, {shape}: give images (N, ..., H, W)")
    require(
        x.ndim > 3 or max(shape[1:]) < 8 * min(shape[1:]),
        f"{name} cuts boxes out of images, and the input {shape} looks like signals: give them as (N, C, 1, L)",
    )
    require(
        not _channels_seem_last(shape),
        f"{name} got images {shape} whose channels seem to be last: give (N, C, H, W)",
    )
    return x.shape[-2], x.shape[-1]


def _channels_seem_last(shape: tuple[int, ...]) -> bool:
    """Whether ``(N, H, W, C)``, the sides of a picture and its colours, is likelier than many small maps."""
    if len(shape) != 4 or shape[3] not in (1, 3, 4):
        return False
    short, long = sorted(shape[1:3])
    return short >= 5 and long <= 3 * short and (short == long or shape[3] == 3)


@dataclass(eq=False, kw_only=True)
class _Pairs(Mix):
    """A mix of each sample with one other of its batch."""

    pairing: Literal["permute", "rotate"] = "permute"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pairing in ("permute", "rotate"), f"pairing={self.pairing!r}: give permute or rotate")

    def _partners(self, x: Tensor) -> Partners:
        if self.pairing == "permute":
            return self._permutations(1, len(x), x.device)[0]
        return 1 + self._integer(len(x) - 1) if len(x) > 1 else 0

    def _pair_targets(self, y: Tensor, partners: Partners, lam: Tensor) -> Tensor:
        """Targets of samples mixed with their partners; ``lam`` as in ``functional.interpolate``."""
        if y.is_floating_point():
            return F.interpolate(y, partners_of(y, partners), lam)
        return one_pass.pair_label_mass(y, partners, lam, self._classes(y))

    def current_k(self) -> int:
        """Two: each sample is mixed with one other."""
        return 2


@dataclass(eq=False)
class Mixup(_Pairs):
    """Interpolate a batch with a permutation of itself, labels alike (arXiv:1710.09412).

    Args:
        alpha: parameter of Beta(alpha, alpha), above 0.
        num_classes: see ``Mix``.
        per_sample: draw a coefficient for each sample instead of one a batch.
        pairing: ``"permute"`` draws a permutation of the batch; ``"rotate"`` draws by how many places, at least
            one, it is turned. For a batch in random order a partner is as random, never the sample itself, and
            read where it lies: quicker on a CPU.

    >>> x, target = Mixup(alpha=1.0, num_classes=2)(torch.tensor([0.0, 1.0]), torch.tensor([0, 1]))
    >>> torch.allclose(x, target[:, 1])
    True
    """

    name: ClassVar[str] = "mixup"
    alpha: float = 1.0
    num_classes: int | None = None
    per_sample: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_alpha(self.alpha)

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        partners = self._partners(x)
        lam = self._dirichlet(self.alpha, len(x) if self.per_sample else 1, 2)[0]
        lam = lam if self.per_sample else lam[0]
        # Targets first: after images have gone through the cache each call costs several times as much.
        target = self._pair_targets(y, partners, lam)
        return one_pass.interpolate(x, partners, lam, self._room), target


@dataclass(eq=False)
class CutMix(_Pairs):
    """Paste a box of another image, labels in proportion to the area (arXiv:1905.04899).

    The label's share is corrected to the exact area that the border leaves of the box.

    Args:
        alpha: parameter of Beta(alpha, alpha), from which the box's area is drawn, above 0.
        num_classes: see ``Mix``.
        per_sample: draw a box for each sample instead of one a batch.
        pairing: see ``Mixup``.
    """

    name: ClassVar[str] = "cutmix"
    alpha: float = 1.0
    num_classes: int | None = None
    per_sample: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_alpha(self.alpha)

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        height, width = require_images(x, "CutMix")
        count = len(x) if self.per_sample else 1
        partners = self._partners(x)
        lam, centre = self._dirichlet(self.alpha, count, 2)[0], self._uniform(count, 2)
        if self.per_sample:
            size = torch.tensor([height, width], device="cpu")
            boxes = F.cutmix_boxes(lam, (centre * size).long(), height, width)
            target = self._pair_targets(y, partners, F.kept_share(boxes, height, width))
            return one_pass.paste_boxes(x, partners, boxes, self._room), target
        # In numbers, rounded as a tensor's are: for one box a tensor's operations take longer.
        row, column = (
            int(np.float32(at) * np.float32(side))
            for at, side in zip(centre[0].tolist(), (height, width), strict=True)
        )
        box = F.cutmix_box(float(lam), row, column, height, width)
        top, bottom, left, right = box
        share = 1.0 - (bottom - top) * (right - left) / (height * width)
        target = self._pair_targets(y, partners, torch.tensor(share, dtype=torch.float32, device="cpu"))
        return one_pass.paste_box(x, partners, box, self._room), target


@dataclass(eq=False)
class Cutout(Mix):
    """Blank a square of each image, labels unchanged (arXiv:1708.04552).

    Args:
        length: side of the square in pixels; None takes half of the image's shorter side (the paper's 16 of
            32 on CIFAR-10). The square's centre lies anywhere in the image, so the border may cut it.
        num_classes: see ``Mix``.
        value: what the square is filled with; 0 is the mean colour of normalised images.
    """

    name: ClassVar[str] = "cutout"
    length: int | None = None
    num_classes: int | None = None
    value: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.length is None or self.length >= 1, f"length={self.length} is no side: give at least 1 pixel")

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        height, width = require_images(x, "Cutout")
        length = self.length or max(1, min(height, width) // 2)
        size = torch.tensor([height, width], device="cpu")
        start = (self._uniform(len(x), 2) * size).long() - length // 2
        edges = torch.stack([start.clamp(min=0), torch.minimum(start + length, size)], dim=2)
        boxes = edges.flatten(1)  # top, bottom, left, right
        return one_pass.fill_boxes(x, self.value, boxes, self._room), self._targets(y)


@dataclass(eq=False)
class SamplePairing(_Pairs):
    """Average each sample with another one, keeping its own label (arXiv:1801.02929).

    Args:
        mix_targets: average the labels too, as the thesis does; the paper keeps the first image's.
        num_classes: see ``Mix``.
        finetune: the last share of the budget, in [0, 1), which is trained without pairing.
        pairing: see ``Mixup``.
    """

    name: ClassVar[str] = "sample-pairing"
    STATE: ClassVar[tuple[str, ...]] = ("active",)
    mix_targets: bool = False
    num_classes: int | None = None
    finetune: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.finetune < 1, f"finetune={self.finetune} is no share: give a number in [0, 1)")
        self.active = True

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if not self.active:
            return self._copy(x), self._targets(y)
        partners = self._partners(x)
        half = torch.tensor(0.5, dtype=torch.float32, device="cpu")
        target = self._pair_targets(y, partners, half) if self.mix_targets else self._targets(y)
        return one_pass.interpolate(x, partners, half, self._room), target

    def advance(self, progress: float, *, epoch_start: bool = True) -> bool:
        """Pairing ends where the fine-tuning begins."""
        self.active = progress < 1.0 - self.finetune
        return False

    def current_k(self) -> int:
        """2 while pairing, 1 while fine-tuning."""
        return 2 if self.active else 1

    def describe(self) -> dict[str, Any]:
        """Whether pairs are made at present."""
        return {"active": self.active}
