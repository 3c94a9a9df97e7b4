"""In the place of ``timm.data.Mixup`` and ``timm.data.FastCollateMixup``, argument by argument.

The names, arguments and their defaults are those of timm 1.0; timm itself is not needed. What differs:

- the batch that is given is left as it is (timm's ``Mixup`` writes into it; ``reuse=True`` saves new memory, too);
- batches of odd length are mixed too, their middle sample with itself;
- numbers come from a generator of their own, which is part of ``state_dict`` and differs between workers and ranks
  (timm's come from NumPy's global one); ``seed`` is this library's;
- targets may be soft already, and images of bytes are mixed as float32;
- ``mode="half"`` is known to ``FastCollateMixup`` alone (timm's ``Mixup`` takes it for ``"batch"``), and arguments
  that cannot be used are refused when the object is made.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lessonplan.errors import ConfigError, require
from lessonplan.mix import functional as F
from lessonplan.mix import one_pass
from lessonplan.mix.base import Mix, factors_carried
from lessonplan.mix.memory import ordinary
from lessonplan.mix.pairs import require_images
from lessonplan.models.beside_torchvision import import_beside_torchvision
from lessonplan.rows import rows_of

__all__ = ["FastCollateMixup", "Mixup"]

Numbers = np.ndarray[Any, Any]


def _theirs() -> tuple[type, ...]:
    """timm's ``FastCollateMixup``: its ``PrefetchLoader`` switches off only what is one."""
    if find_spec("timm") is None:
        return ()
    with contextlib.suppress(ImportError, RuntimeError, OSError, AttributeError):
        return (import_beside_torchvision("timm.data").FastCollateMixup,)
    return ()


class Draws(NamedTuple):
    """What was drawn for a batch.

    Attributes:
        lam: ``(B,)`` float64, each image's own share of its label; 1 is not mixed. B is 1 or N.
        cut: ``(B,)`` bool, whether a box is pasted instead of images interpolated.
        boxes: ``(B, 4)``, top, bottom, left, right; empty where nothing is pasted.
    """

    lam: Tensor
    cut: Tensor
    boxes: Tensor


@dataclass(eq=False)
class Mixup(Mix):
    """mixup and CutMix of a batch with itself in reverse, as ``timm.data.Mixup``; see this module's first lines.

    Args:
        mixup_alpha: of Beta(alpha, alpha) for mixup, which takes part if it is above 0.
        cutmix_alpha: the same for CutMix.
        cutmix_minmax: smallest and largest side of CutMix's box, as shares of the image's; CutMix then takes part
            whatever its alpha is.
        prob: that a batch (``mode="batch"``), a pair or a sample is mixed.
        switch_prob: of CutMix, where both take part.
        mode: what shares the numbers drawn: the ``"batch"``, the two of a ``"pair"``, or each ``"elem"`` its own.
        correct_lam: count CutMix's label by the area that the border leaves of the box.
        label_smoothing: share of each target that is spread over all classes.
        num_classes: C.
        multi_label: targets are ``(N, C)``, each label smoothed towards 0.5.

    >>> mix = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10)
    >>> x, target = mix(torch.rand(8, 3, 32, 32), torch.arange(8))
    >>> target.shape
    torch.Size([8, 10])
    """

    name: ClassVar[str] = "timm-mixup"
    STATE: ClassVar[tuple[str, ...]] = ("mixup_enabled=_enabled",)
    MODES: ClassVar[tuple[str, ...]] = ("batch", "pair", "elem")
    mixup_alpha: float = 1.0
    cutmix_alpha: float = 0.0
    cutmix_minmax: Sequence[float] | None = None
    prob: float = 1.0
    switch_prob: float = 0.5
    mode: Literal["batch", "pair", "elem", "half"] = "batch"
    correct_lam: bool = True
    label_smoothing: float = 0.1
    num_classes: int | None = 1000
    multi_label: bool = False

    def __post_init__(self) -> None:
        self._enabled = True
        super().__post_init__()
        for name in ("mixup_alpha", "cutmix_alpha"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"{name}={value}: give a finite number, 0 for none")
        require(
            self._mixes or self._cuts,
            "neither mixup nor CutMix takes part: give mixup_alpha, cutmix_alpha or cutmix_minmax",
        )
        if self.cutmix_minmax is not None:
            low, high = (*self.cutmix_minmax, -1.0, -1.0)[:2]
            fits = len(self.cutmix_minmax) == 2 and 0 <= low < high <= 1
            require(
                fits, f"cutmix_minmax={self.cutmix_minmax}: give two rising shares of a side, for example (.2, .8)"
            )
        for name in ("prob", "switch_prob"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name}={value} is no probability: give a number in [0, 1]")
        require(
            0 <= self.label_smoothing < 1,
            f"label_smoothing={self.label_smoothing} is no share: give a number in [0, 1)",
        )
        require(self.mode in self.MODES, f"mode={self.mode!r}: give one of {', '.join(self.MODES)}")

    @property
    def mixup_enabled(self) -> bool:
        """Whether batches are mixed; training scripts set it to False for the last epochs. Workers hear of it."""
        return self._enabled

    @mixup_enabled.setter
    def mixup_enabled(self, value: bool) -> None:
        self._enabled = bool(value)
        self._tell()

    @property
    def _mixes(self) -> bool:
        return self.mixup_alpha > 0

    @property
    def _cuts(self) -> bool:
        return self.cutmix_alpha > 0 or self.cutmix_minmax is not None

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        size = require_images(x, "timm's CutMix") if self._cuts else (1, 1)
        return self.apply(x, y, self.draw(len(x), *size))

    def draw(self, samples: int, height: int, width: int) -> Draws:
        """Draw for a batch of images ``height`` by ``width``: whether, how, and how much is mixed."""
        count = {"batch": 1, "pair": -(-samples // 2), "half": samples // 2}.get(self.mode, samples)
        cut = np.full(count, self._cuts)
        if self._cuts and self._mixes:
            cut = _numbers(self._uniform(count)) < self.switch_prob
        lam = np.ones(count)
        if self._mixes:
            lam = _numbers(self._dirichlet(self.mixup_alpha, count, 2)[0])
        if self._cuts:
            # With limits for the box it only says whether there is one, as timm has it.
            alpha = 1.0 if self.cutmix_minmax is not None else self.cutmix_alpha
            lam = np.where(cut, _numbers(self._dirichlet(alpha, count, 2)[0]), lam)
        lam = np.where(_numbers(self._uniform(count)) < (self.prob if self._enabled else 0.0), lam, 1.0)
        cut &= lam < 1
        boxes = np.zeros((count, 4), np.int64)
        if self._cuts:
            boxes = np.where(cut[:, None], self._boxes(lam, height, width), boxes)
            if self.correct_lam or self.cutmix_minmax is not None:
                lam = np.where(cut, _numbers(F.kept_share(torch.from_numpy(boxes), height, width)), lam)
        drawn = self._for_samples((lam, cut, boxes), samples)
        return Draws(*(torch.from_numpy(part) for part in drawn))

    def _boxes(self, lam: Numbers, height: int, width: int) -> Numbers:
        uniform = _numbers(self._uniform(2, 2, len(lam), dtype=torch.float64))
        size = np.array([[height], [width]])
        if self.cutmix_minmax is None:
            side = (size * np.sqrt(1.0 - lam)).astype(np.int64)
            centre = (uniform[0] * size).astype(np.int64)
            start, stop = centre - side // 2, centre + (side + 1) // 2
            start, stop = np.maximum(start, 0), np.minimum(stop, size)
        else:
            # rounded as float32: what a seed has always given
            low, high = (
                (size * np.float32(share)).astype(np.float32).astype(np.int64) for share in self.cutmix_minmax
            )
            side = low + (uniform[0] * (high - low)).astype(np.int64)
            start = (uniform[1] * (size - side + 1)).astype(np.int64)
            stop = start + side
        return np.stack([start[0], stop[0], start[1], stop[1]], 1)

    def _for_samples(self, drawn: tuple[Numbers, ...], samples: int) -> tuple[Numbers, ...]:
        """What was drawn for pairs, or for half of a batch, said of each sample."""
        if self.mode == "pair":
            place = np.minimum(np.arange(samples), np.arange(samples)[::-1])
            return tuple(part[place] for part in drawn)
        if self.mode == "half":
            clean = samples - len(drawn[0])
            rest = np.ones(clean), np.zeros(clean, bool), np.zeros((clean, 4), np.int64)
            return tuple(np.concatenate(parts) for parts in zip(drawn, rest, strict=True))
        return drawn

    def apply(self, x: Tensor, y: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Mix a batch with itself in reverse, as ``draws`` say; shapes as in ``Mix``."""
        partner = torch.arange(len(x) - 1, -1, -1, device=x.device)
        lam, cut, boxes = draws
        target, clean = self._smooth(y), bool((lam == 1).all())
        self._mixed_k = 1 if clean else self.current_k()
        if clean:
            return self._copy(x), target
        mixed_target = F.interpolate(target, target.flip(0), lam if len(lam) > 1 else lam[0])
        if len(lam) == 1:
            if not cut[0]:
                return one_pass.interpolate(x, partner, lam[0], self._room), mixed_target
            top, bottom, left, right = boxes[0].tolist()
            return one_pass.paste_box(x, partner, (top, bottom, left, right), self._room), mixed_target
        if bool(cut.all()):
            return one_pass.paste_boxes(x, partner, boxes, self._room), mixed_target
        mixed = one_pass.interpolate(x, partner, torch.where(cut, 1.0, lam), self._room)
        return F.paste_boxes(mixed, rows_of(x, partner), boxes)[0] if cut.any() else mixed, mixed_target

    def _smooth(self, y: Tensor) -> Tensor:
        target, share = self._targets(y), self.label_smoothing
        if share == 0:
            return target
        if factors_carried():  # a sample's factor is that of its smoothed label
            return target * (1.0 - share) + share * target.mean(1, keepdim=True)
        off = 0.5 if self.multi_label else 1.0 / target.shape[1]
        return target * (1.0 - share) + share * off

    def keeps_factors(self) -> bool:
        """False of labels that are smoothed towards 0.5, whose rows do not sum to 1."""
        return not self.multi_label or self.label_smoothing == 0

    def current_k(self) -> int:
        """Two: each image is mixed with one other."""
        return 2


def _numbers(drawn: Tensor) -> Numbers:
    """As an array of NumPy's; inside a transform of ``torch.func`` what was drawn has no memory of its own."""
    if ordinary(drawn):
        return drawn.numpy()
    return np.array(drawn.tolist(), np.float64 if drawn.dtype == torch.float64 else np.float32)


@dataclass(eq=False)
class FastCollateMixup(Mixup, *_theirs()):  # type: ignore[misc]
    """``Mixup`` while samples are put together, as ``timm.data.FastCollateMixup``: a ``collate_fn``.

    It takes a list of ``(image, label)``, images ``(C, H, W)`` of bytes (tensors or NumPy arrays), and gives bytes
    ``(N, C, H, W)``, rounded, with float targets. ``mode="half"`` gives the first half of the batch, mixed with
    the other.
    """

    name: ClassVar[str] = "timm-fast-collate-mixup"
    MODES: ClassVar[tuple[str, ...]] = ("batch", "pair", "elem", "half")

    def __call__(self, batch: Sequence[tuple[Any, Any]] | Tensor, _: Any = None) -> tuple[Tensor, Tensor]:
        """Put samples together and mix them.

        Raises:
            ConfigError: it is given a batch, images are no bytes, or see ``Mix``.
        """
        if isinstance(batch, Tensor):
            raise ConfigError(
                "FastCollateMixup puts samples (image, label) together and got a batch: give it to a loader as"
                " collate_fn, or use Mixup on the batch"
            )
        images = torch.stack([torch.as_tensor(image) for image, _ in batch])
        if images.dtype != torch.uint8:
            raise ConfigError(
                f"FastCollateMixup puts images of bytes together and got {images.dtype}: give uint8 (C, H, W), or"
                " use Mixup on the batch"
            )
        labels = torch.stack([torch.as_tensor(label) for _, label in batch])
        mixed, target = super().__call__(images, labels.float() if labels.ndim == 2 else labels)
        if self.mode == "half":
            mixed, target = mixed[: len(batch) // 2], target[: len(batch) // 2]
        return mixed.round().to(torch.uint8), target
