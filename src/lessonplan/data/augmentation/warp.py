"""Moves of a picture: turned, slanted, shifted, zoomed and cut out, all in one resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lessonplan.data.augmentation.change import Change, in_range, numbers, word

Pad = Literal["reflect", "zeros"]
WORDS = {
    "rotate": "rotate:15", "translate": "translate:0.1", "zoom": "zoom:0.1", "shear": "shear:10",
    "resized-crop": "resized-crop:0.08",
}  # fmt: skip
"""The words of a :class:`Warp`, each as one may write it."""
_MOST = {"rotate": 180.0, "translate": 1.0, "zoom": 0.9, "shear": 80.0}
_ASPECT = math.log(4 / 3)  # of cuts, from 3/4 to 4/3 as in Szegedy et al., arXiv:1409.4842, section 6


@dataclass(frozen=True)
class Warp(Change):
    """One affine move with bilinear resampling, about the centre, drawn evenly for each picture.

    Args:
        rotate: degrees, turned by up to as many either way.
        translate: share of the side, shifted by up to it along each axis.
        zoom: changed in size by a factor from 1 - zoom to 1 + zoom.
        shear: degrees, slanted along the rows by up to as many either way.
        cut: least share of the area that is cut out and resized to the whole: areas are even between it and
            all, aspect ratios even in their logarithm from 3/4 to 4/3, sides cut off at those of the picture
            (Szegedy et al., arXiv:1409.4842; torchvision draws again instead). 1 cuts nothing.
        pad: what lies outside the picture.
    """

    rotate: float = 0.0
    translate: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    cut: float = 1.0
    pad: Pad = "reflect"

    @property
    def moves(self) -> bool:
        """Whether anything is to be done."""
        return replace(self, pad="reflect") != Warp()

    def with_word(self, name: str, value: str) -> Warp:
        """This move and one more word, such as ``rotate`` with ``"15"``.

        Raises:
            ConfigError: no number behind the word, or one that is out of range.
        """
        if name == "resized-crop":
            [share] = numbers(name, value, WORDS[name], (0.08,))
            return replace(self, cut=in_range(name, share, 0.01, 1))
        [most] = numbers(name, value, WORDS[name], (0.0,), least=1)
        given = in_range(name, most, 0, _MOST[name])
        return replace(self, **{name: given})  # type: ignore[arg-type]

    def __str__(self) -> str:
        kept = {name: getattr(self, name) for name in _MOST}
        words = [word(name, [value]) for name, value in kept.items() if value]
        if self.cut < 1:
            words.append(word("resized-crop", [self.cut], (0.08,)))
        return ",".join(words)

    def draws(self, shape: tuple[int, ...]) -> int:
        return 9

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        h, w = x.shape[2:]
        angle, right, down, zoom, shear, area, aspect, left, top = u.unbind(1)
        size = x.new_tensor([w, h])
        turned = inverse_move(
            angle=torch.deg2rad(_either_way(angle, self.rotate)),
            shift=torch.stack([_either_way(right, self.translate), _either_way(down, self.translate)], 1) * size,
            zoom=1 + _either_way(zoom, self.zoom),
            shear=torch.tan(torch.deg2rad(_either_way(shear, self.shear))),
        )
        root = (1 - area * (1 - self.cut)).sqrt()
        ratio = torch.exp(_either_way(aspect, _ASPECT) / 2) if self.cut < 1 else torch.ones_like(root)
        # shares of the sides in pixels of a square of the same area, so that the ratio is that of the cut
        side = math.sqrt(w * h)
        share = torch.stack([root * ratio * (side / w), root / ratio * (side / h)], 1).clamp_(max=1)
        share = torch.where(torch.tensor(self.cut < 1, device=x.device), share, 1.0)
        centre = (torch.stack([left, top], 1) - 0.5) * (1 - share) * size
        matrix = torch.cat(
            [share[:, :, None] * turned[:, :, :2], (share * turned[:, :, 2] + centre)[:, :, None]], 2
        )
        return resample(x, matrix, self.pad)


def inverse_move(*, angle: Tensor, shift: Tensor, zoom: Tensor, shear: Tensor) -> Tensor:
    """Where the pixels of moved pictures come from.

    Args:
        angle: ``(B,)`` radians, clockwise on the screen.
        shift: ``(B, 2)`` pixels to the right and down, after all else.
        zoom: ``(B,)`` factors of the size.
        shear: ``(B,)`` columns to the left for each row below the centre, before the turn.

    Returns:
        ``(B, 2, 3)`` matrices from a place in the result to one in the picture, both (column, row) from the
        centre in pixels.
    """
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # the inverse of a turn, and then that of a slant
    first = torch.stack([cos - shear * sin, sin + shear * cos], 1)
    linear = torch.stack([first, torch.stack([-sin, cos], 1)], 1)
    return torch.cat([linear, -(linear @ shift[:, :, None])], 2)


def resample(x: Tensor, matrix: Tensor, pad: Pad) -> Tensor:
    """Pictures by their matrices of :func:`inverse_move`, bilinear.

    Args:
        x: ``(B, C, H, W)`` float.
        matrix: ``(B, 2, 3)`` of the same type.
        pad: what lies outside.
    """
    h, w = x.shape[2:]
    size = x.new_tensor([w, h])
    unit = torch.cat([matrix[:, :, :2] * size / size[:, None], matrix[:, :, 2:] * 2 / size[:, None]], 2)
    grid = F.affine_grid(unit, list(x.shape), align_corners=False)
    mode = "reflection" if pad == "reflect" else "zeros"
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=mode, align_corners=False)


def _either_way(u: Tensor, most: float) -> Tensor:
    return (2 * u - 1) * most
