"""Brightness, contrast, colour and the like of batches of pictures, each picture by an amount of its own.

Pictures are ``(B, C, H, W)`` float32 in [0, 255], amounts ``(B,)``. What these operations are is what Pillow's
``ImageEnhance`` and ``ImageOps`` say, which the published policies were found with; the tests compare.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST = 255.0


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """``factor`` of the picture and ``1 - factor`` of another, within the range."""
    return torch.lerp(other, x, factor[:, None, None, None]).clamp_(0, MOST)


def grey(x: Tensor) -> Tensor:
    """``(B, 1, H, W)`` luma, ITU-R 601; one channel is its own."""
    if x.shape[1] == 1:
        return x
    weights = x.new_tensor([0.299, 0.587, 0.114])
    return (x * weights[:, None, None]).sum(1, keepdim=True)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """0 is black, 1 the picture itself."""
    return (x * factor[:, None, None, None]).clamp_(0, MOST)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """0 is the mean of the luma everywhere, 1 the picture itself."""
    return _blend(x, grey(x).mean((1, 2, 3), keepdim=True).expand_as(x), factor)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """0 is the luma, 1 the picture itself."""
    return _blend(x, grey(x).expand_as(x), factor)


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """Colours of three channels turned by a share of the circle of hues."""
    red, green, blue = x.unbind(1)
    top, bottom = x.amax(1), x.amin(1)
    chroma = top - bottom
    safe = torch.where(chroma > 0, chroma, 1.0)
    place = torch.where(
        top == red,
        (green - blue) / safe,
        torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    place = place + 6 * turn[:, None, None]
    # each channel is the top but for a share of the chroma that depends on how far the hue is from its own
    channels = []
    for n in (5, 3, 1):
        k = (n + place) % 6
        channels.append(top - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """0 is the mean of 3 x 3 pixels, the middle five times; 1 the picture itself. The border stays."""
    if min(x.shape[2:]) < 3:
        return x
    kernel = x.new_ones(3, 3)
    kernel[1, 1] = 5
    channels = x.shape[1]
    weight = (kernel / 13).expand(channels, 1, 3, 3)
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, weight, groups=channels)
    return _blend(x, smooth, factor)


def invert(x: Tensor) -> Tensor:
    """Black for white."""
    return MOST - x


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Pixels from the threshold on are inverted."""
    whole = x.round()
    return torch.where(whole >= threshold[:, None, None, None], MOST - whole, whole)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Only the first bits (1 to 8) of each pixel are kept."""
    step = torch.exp2(8 - bits)[:, None, None, None]
    return (x.round() / step).floor_() * step


def autocontrast(x: Tensor) -> Tensor:
    """Each channel stretched to the whole range; one of a single value stays."""
    bottom, top = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    flat = top <= bottom
    scale = torch.where(flat, 1.0, MOST / torch.where(flat, 1.0, top - bottom))
    return ((x - torch.where(flat, 0.0, bottom)) * scale).clamp_(0, MOST)


def equalize(x: Tensor) -> Tensor:
    """Each channel's histogram made flat, in whole numbers as Pillow does."""
    b, c = x.shape[:2]
    values = x.round().to(torch.int64).view(b * c, -1)
    counts = torch.zeros(b * c, 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    last = values.amax(1, keepdim=True)
    step = (values.shape[1] - counts.gather(1, last)) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp_(max=255)
    return torch.where(step > 0, table.gather(1, values), values).view(x.shape).to(x.dtype)
