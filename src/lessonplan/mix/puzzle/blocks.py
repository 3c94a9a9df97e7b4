"""Images as grids of blocks: which grids fit, how to fill them up, how to move blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lessonplan.errors import ConfigError


def fitting_grids(height: int, width: int, grids: Sequence[int]) -> tuple[int, ...]:
    """The grids that suit an image: those that divide it, or else those that are not finer than its pixels.

    Args:
        height, width: of the image, in pixels.
        grids: blocks along each side, for example (2, 4, 8, 16).

    Raises:
        ConfigError: the image has fewer pixels along a side than the coarsest grid has blocks.

    >>> fitting_grids(28, 28, (2, 4, 8, 16)), fitting_grids(31, 40, (2, 4, 8, 16))
    ((2, 4), (2, 4, 8, 16))
    """
    small = [n for n in grids if n <= min(height, width)]
    if not small:
        raise ConfigError(
            f"images of {height} x {width} pixels cannot be cut into {min(grids)} x {min(grids)} blocks:"
            " give larger images or coarser blocks"
        )
    exact = [n for n in small if height % n == 0 and width % n == 0]
    return tuple(exact or small)


def pad_to_grid(x: Tensor, n: int, mode: str = "replicate") -> Tensor:
    """Continue images ``(N, C, H, W)`` to the right and below until n divides both sides.

    ``mode`` is that of ``torch.nn.functional.pad``.

    >>> pad_to_grid(torch.zeros(1, 1, 7, 8), 4).shape
    torch.Size([1, 1, 8, 8])
    """
    down, across = -x.shape[-2] % n, -x.shape[-1] % n
    return F.pad(x, (0, across, 0, down), mode=mode) if down or across else x


def enlarge(mask: Tensor, height: int, width: int) -> Tensor:
    """A value a block to a value a pixel: ``(N, n, n)`` to ``(N, height, width)``; n divides both.

    >>> enlarge(torch.tensor([[[0.0, 1.0], [0.5, 0.0]]]), 2, 4)
    tensor([[[0.0000, 0.0000, 1.0000, 1.0000],
             [0.5000, 0.5000, 0.0000, 0.0000]]])
    """
    rows, columns = height // mask.shape[-2], width // mask.shape[-1]
    return mask.repeat_interleave(rows, -2).repeat_interleave(columns, -1)


def move_blocks(x: Tensor, source: Tensor, n: int) -> Tensor:
    """Rearrange the blocks of images, without a plan matrix.

    Args:
        x: images ``(N, C, H, W)``; n divides H and W.
        source: ``(N, n * n)`` int64; place i, counted row by row, takes the block that was at ``source[:, i]``.
        n: blocks along each side.

    >>> move_blocks(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([[3, 1, 2, 0]]), 2)
    tensor([[[[4, 2],
              [3, 1]]]])
    """
    count, channels, height, width = x.shape
    rows, columns = height // n, width // n
    blocks = x.reshape(count, channels, n, rows, n, columns).permute(0, 2, 4, 1, 3, 5)
    first = torch.arange(count, device=x.device).unsqueeze(1) * n**2
    moved = blocks.reshape(count * n**2, channels * rows * columns)[(first + source).flatten()]
    return moved.view(count, n, n, channels, rows, columns).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
