"""Puzzle Mix: what matters in two images, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lessonplan.errors import require
from lessonplan.mix import functional as F
from lessonplan.mix.model_aware import ModelAwareMix
from lessonplan.mix.puzzle.adversarial import adversarial_noise
from lessonplan.mix.puzzle.assemble import Borders, Moves, Puzzle, Weights, colour_span, puzzle
from lessonplan.mix.puzzle.blocks import fitting_grids
from lessonplan.mix.puzzle.saliency import input_gradient, saliency_map
from lessonplan.network.passes import Passes
from lessonplan.rows import rows_of


@dataclass(eq=False)
class PuzzleMix(ModelAwareMix):
    """Mix each image with another one block by block, so that both keep what matters to the network.

    ``z Pi1 x1 + (1 - z) Pi2 x2``: the mask z and the moves Pi of blocks follow from the images' saliency, which
    takes one more forward and backward pass (Kim, Choo and Song, ICML 2020). The label's share of the first
    image is the mean of the mask. With the paper's values::

        mix = PuzzleMix(num_classes=100, model=model)         # fit gives the model itself
        x, target = mix(x, y)                                 # after optimizer.zero_grad(), if clean_weight > 0
        F.cross_entropy(model(x), target).backward()

    Args:
        alpha: the expected share of the first image is drawn from Beta(alpha, alpha) for each batch, above 0.
        num_classes: see ``Mix``.
        eta: weight of that expectation, 0 or more.
        beta: smoothness of the mask, 0 or more.
        gamma: how much the smoothness depends on the colours at borders, 0 or more.
        xi: cost of moving a block, 0 or more.
        labels: values that the mask can take, 2 to 5.
        blocks: blocks along each side, one of these drawn for each batch among those that suit the image (see
            ``fitting_grids``).
        transport: move blocks.
        clean_weight: weight of the unmixed images' gradient, which the saliency's backward pass then adds to the
            weights' ``.grad``, 0 or more; the paper uses 1 on Tiny-ImageNet.
        adversarial_p: probability, for each of the two sides of a batch, of a perturbation against the network.
        eps: largest perturbation of a pixel in 255ths of the way from black to white, above 0.
        pixel_range: from black to white in the input's units; None takes each channel's range in the batch.
        borders: "change" charges for borders where a change of image jars; "whole" for all that is seen at
            borders, as the authors' code does (see ``border_costs``).
        moves: "shown" moves blocks without a charge for what is hidden, for all images at once; "whole" is the
            lecture's transport objective, solved exactly on the CPU, image by image.
        model, loss: see ``ModelAwareMix``.

    Samples whose saliency is not finite are interpolated as mixup does it; ``describe`` counts them.
    """

    name: ClassVar[str] = "puzzle"
    STATE: ClassVar[tuple[str, ...]] = ("interpolated=_lost",)
    alpha: float = 1.0
    num_classes: int | None = None
    eta: float = 0.2
    beta: float = 1.2
    gamma: float = 0.5
    xi: float = 0.8
    labels: int = 3
    blocks: Sequence[int] = (2, 4, 8, 16)
    transport: bool = True
    clean_weight: float = 0.0
    adversarial_p: float = 0.0
    eps: float = 10.0
    pixel_range: float | None = None
    borders: Borders = "change"
    moves: Moves = "shown"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha > 0, f"alpha={self.alpha}: give a parameter of a Beta distribution, above 0")
        for name in ("eta", "beta", "gamma", "xi", "clean_weight"):
            value = getattr(self, name)
            require(value >= 0, f"{name}={value} is no weight: give 0 or more")
        require(2 <= self.labels <= 5, f"labels={self.labels}: give 2 to 5 values of the mask")
        sizes = tuple(self.blocks)
        require(
            bool(sizes) and all(float(b).is_integer() and b >= 2 for b in sizes),
            f"blocks={sizes}: give whole numbers of at least 2, for example (2, 4, 8, 16)",
        )
        self.blocks = tuple(int(b) for b in sizes)
        require(0 <= self.adversarial_p <= 1, f"adversarial_p={self.adversarial_p}: give a probability in [0, 1]")
        require(self.eps > 0, f"eps={self.eps} is no size of a perturbation: give a number above 0")
        require(
            self.pixel_range is None or self.pixel_range > 0,
            f"pixel_range={self.pixel_range}: give the distance from black to white, above 0, or leave it out",
        )
        require(self.borders in ("change", "whole"), f"borders={self.borders!r}: give change or whole")
        require(self.moves in ("shown", "whole"), f"moves={self.moves!r}: give shown or whole")
        self._passes = Passes()
        self._lost: Tensor | int = 0

    def explain(self, x: Tensor, y: Tensor) -> tuple[Puzzle, Tensor, Tensor]:
        """A mixed batch with everything that led to it.

        Args:
            x: images ``(N, C, H, W)``, floating point.
            y: as for a call.

        Returns:
            the puzzle, the permutation ``(N,)`` that gave the second images, and the targets ``(N, C)``.
        """
        grids = self._grids(x)
        target = self._targets(y)
        permutation = self._permutations(1, len(x), x.device)[0]
        lam = self._dirichlet(self.alpha, 1, 2)[0, 0]
        n = grids[self._integer(len(grids))]
        span = (
            colour_span(_as_images(x))
            if self.pixel_range is None
            else x.new_full((1, 1, 1, 1), self.pixel_range).float()
        )
        first, second, saliency = self._look(x, target, span)
        found = puzzle(
            (first, rows_of(second, permutation)),
            (saliency, saliency[permutation]),
            lam.to(x.device, torch.float32, non_blocking=True),
            n,
            labels=self.labels,
            weights=Weights(self.eta, self.beta, self.gamma, self.xi),
            transport=self.transport,
            span=span,
            borders=self.borders,
            moves=self.moves,
        )
        self._lost = self._lost + found.lost.sum()
        return found, permutation, F.interpolate(target, target[permutation], found.share)

    def _check_shape(self, x: Tensor) -> None:
        self._grids(x)

    def _grids(self, x: Tensor) -> tuple[int, ...]:
        require(
            x.ndim >= 3,
            f"PuzzleMix cuts (N, ..., H, W) images into blocks, but the input has shape {tuple(x.shape)}",
        )
        return fitting_grids(x.shape[-2], x.shape[-1], self.blocks)

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        found, _, target = self.explain(x, y)
        mixed = found.mixed.view(x.shape)
        last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        return mixed.contiguous(memory_format=torch.channels_last) if last else mixed, target

    def _look(self, x: Tensor, target: Tensor, span: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The images as first and second of the pairs, attacked where that was drawn, and their saliency."""
        images = _as_images(x)
        sides = (self._uniform(2) < self.adversarial_p).tolist()
        start = None
        if any(sides):
            unit = span / 255
            drawn = self._uniform(*images.shape).to(x.device, non_blocking=True) * 2 - 1
            start = self._within(images, images + drawn * self.eps * unit) - images
        gradient = input_gradient(
            self.network, x if start is None else (images + start).view(x.shape), target, self.clean_weight
        )
        gradient = _as_images(gradient)
        cost = 3 if self.clean_weight > 0 else 2
        self._passes = self._passes.plus(Passes(len(x), cost * len(x), len(x), len(x)))
        if start is None:
            return images, images, saliency_map(gradient)
        strength = self._uniform().to(x.device, non_blocking=True)
        noise = strength * adversarial_noise(start, gradient, self.eps, unit)
        attacked = self._within(images, images + noise)
        first, second = (attacked if side else images for side in sides)
        return first, second, saliency_map(gradient)

    @staticmethod
    def _within(images: Tensor, changed: Tensor) -> Tensor:
        """Keep changed images between the darkest and the brightest value of each channel."""
        low, high = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
        return changed.clamp(low, high).to(images.dtype)

    def take_passes(self) -> Passes:
        """One forward pass a sample and its gradient, with the weights' gradient if ``clean_weight`` is not 0."""
        passes, self._passes = self._passes, Passes()
        return passes

    def current_k(self) -> int:
        """Two: each image is cut together with one other."""
        return 2

    def describe(self) -> dict[str, Any]:
        """``interpolated``: samples so far that had no finite saliency."""
        return {"interpolated": int(self._lost)}


def _as_images(x: Tensor) -> Tensor:
    """``(N, ..., H, W)`` with everything between batch and height as channels."""
    return x if x.ndim == 4 else x.reshape(len(x), -1, *x.shape[-2:])
