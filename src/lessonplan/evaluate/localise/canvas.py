"""A set with boxes out of any set of images: each is pasted onto a canvas cluttered with pieces of others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lessonplan.errors import ConfigError, DataError
from lessonplan.evaluate.network import own_generator


def paste_on_clutter(
    images: Tensor,
    size: tuple[int, int],
    *,
    scales: Sequence[float] = (1.0,),
    pieces: int = 16,
    piece: int = 6,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Paste every image at a random place of a canvas of its own.

    The canvas is a random grey with ``pieces`` squares cut from random images pasted over one another, so that
    edges and textures of the data are everywhere, and whole objects are not.

    Args:
        images: ``(N, C, H, W)`` floating point in [0, 1].
        size: (height, width) of the canvases in pixels.
        scales: factors one of which is drawn for each image's size.
        pieces: number of squares, 0 or more.
        piece: their side in pixels, at most the images' shorter side.
        generator: where everything is drawn from; None starts one from seed 0.

    Returns:
        canvases ``(N, C, *size)`` in [0, 1], and boxes ``(N, 4)`` int64: top, bottom, left, right; bottom
        and right exclusive.

    Raises:
        DataError, ConfigError: images of another shape or type, sizes that do not fit into one another.
    """
    if images.ndim != 4 or len(images) == 0 or not images.is_floating_point():
        raise DataError(f"images of shape {tuple(images.shape)} and type {images.dtype}: give floats (N, C, H, W)")
    n, channels, height, width = images.shape
    sizes = [(max(1, round(height * s)), max(1, round(width * s))) for s in scales]
    if not sizes or any(h > size[0] or w > size[1] for h, w in sizes):
        raise ConfigError(
            f"images of {height} x {width} at scales {list(scales)} do not fit on canvases of {size}"
        )
    if pieces < 0 or not 1 <= piece <= min(height, width, *size):
        raise ConfigError(f"{pieces} pieces of side {piece}: they must fit into the images and onto the canvases")
    draw = _Draw(own_generator(generator), images.device)
    canvas = draw.uniform(n, 1, 1, 1).expand(n, channels, *size).to(images.dtype).clone()
    for _ in range(pieces):
        source = images[draw.below(torch.full((n,), n))]
        cut = _window(source, draw.corner(n, (height, width), (piece, piece)), (piece, piece))
        _put(canvas, torch.arange(n), cut, draw.corner(n, size, (piece, piece)))
    boxes = torch.zeros(n, 4, dtype=torch.int64)
    which = draw.below(torch.full((n,), len(sizes))).cpu()
    for index, (h, w) in enumerate(sizes):
        rows = (which == index).nonzero().squeeze(1)
        if len(rows) == 0:
            continue
        pasted = images[rows.to(images.device)]
        if (h, w) != (height, width):
            pasted = F.interpolate(pasted, size=(h, w), mode="bilinear", align_corners=False, antialias=True)
        corner = draw.corner(len(rows), size, (h, w))
        _put(canvas, rows, pasted.clamp(0.0, 1.0), corner)
        top, left = corner.cpu().unbind(1)
        boxes[rows] = torch.stack([top, top + h, left, left + w], 1)
    return canvas, boxes


class _Draw:
    """Random numbers on the images' device from one generator."""

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(self.device)

    def below(self, limits: Tensor) -> Tensor:
        """Uniform integers in [0, limit), one for each limit."""
        u = torch.rand(limits.shape, generator=self.generator, device=self.generator.device, dtype=torch.float64)
        return (u.to(self.device) * limits.to(self.device)).long()

    def corner(self, n: int, outer: tuple[int, int], inner: tuple[int, int]) -> Tensor:
        """``(n, 2)``: top and left of windows that lie inside."""
        free = torch.tensor([outer[0] - inner[0] + 1, outer[1] - inner[1] + 1])
        return self.below(free.expand(n, 2))


def _grid(corner: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Row and column indices ``(n, 1, h, 1)`` and ``(n, 1, 1, w)`` of windows."""
    rows = corner[:, 0].view(-1, 1, 1, 1) + torch.arange(size[0], device=corner.device).view(1, 1, -1, 1)
    columns = corner[:, 1].view(-1, 1, 1, 1) + torch.arange(size[1], device=corner.device).view(1, 1, 1, -1)
    return rows, columns


def _window(images: Tensor, corner: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = _grid(corner, size)
    n, channels = images.shape[:2]
    which = torch.arange(n, device=images.device).view(-1, 1, 1, 1)
    return images[which, torch.arange(channels, device=images.device).view(1, -1, 1, 1), rows, columns]


def _put(canvas: Tensor, which: Tensor, patch: Tensor, corner: Tensor) -> None:
    rows, columns = _grid(corner, (patch.shape[2], patch.shape[3]))
    channels = torch.arange(canvas.shape[1], device=canvas.device).view(1, -1, 1, 1)
    canvas[which.to(canvas.device).view(-1, 1, 1, 1), channels, rows, columns] = patch
