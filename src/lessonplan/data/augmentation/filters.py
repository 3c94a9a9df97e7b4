"""Filters and noise over batches of pictures, ``(B, C, H, W)`` float32 in [0, 255]."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lessonplan.data.augmentation.pixelwise import MOST, grey


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """A Gaussian blur of its own for each picture, mirrored at the border.

    Args:
        x: pictures.
        sigma: ``(B,)`` standard deviation in pixels, above 0; the window reaches a twentieth of the shorter side
            to every side, at least one pixel (Chen et al., arXiv:2002.05709, appendix A: a tenth in all).
    """
    b, c, h, w = x.shape
    reach = max(1, min(h, w) // 20)
    if min(h, w) <= reach:
        return x
    places = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.softmax(-(places**2) / (2 * sigma[:, None] ** 2), 1).repeat_interleave(c, 0)
    padded = F.pad(x, (reach,) * 4, mode="reflect").view(1, b * c, h + 2 * reach, w + 2 * reach)
    rows = F.conv2d(padded, kernel[:, None, :, None], groups=b * c)
    return F.conv2d(rows, kernel[:, None, None, :], groups=b * c).view(b, c, h, w)


def sobel(x: Tensor) -> Tensor:
    """The length of the gradient of the luma, the same in each channel; 255 is the steepest edge there can be.

    Sobel's 3 x 3 operator, the border repeated.
    """
    across = x.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    both = torch.stack([across, across.T])[:, None]
    gradient = F.conv2d(F.pad(grey(x), (1, 1, 1, 1), mode="replicate"), both)
    length: Tensor = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    return length.clamp_(max=MOST).expand_as(x)


def gaussian(u: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers from uniform ones (Box and Muller, 1958).

    Args:
        u: ``(B, 2 * ceil(n / 2))`` in [0, 1), where ``shape`` has n elements.
        shape: of one picture.

    Returns:
        ``(B, *shape)``.
    """
    count = math.prod(shape)
    half = u.shape[1] // 2
    radius = (-2 * torch.log1p(-u[:, :half])).sqrt_()
    angle = u[:, half:] * (2 * math.pi)
    both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)
    return both[:, :count].view(-1, *shape)
