"""Boxes around what images show: one an image, or several, carried through joining and resizing.

Boxes are float32, left, top, right, bottom in pixels: ``(N, 4)``, or ``(N, B, 4)`` where an image may have
several; one with fewer than B has its first again. An image without any has NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lessonplan.data.pixels import place_box


def boxes_of(source: object) -> Tensor | None:
    """A source's boxes; None where it has none."""
    found: Tensor | None = getattr(source, "boxes", None)
    return found


def stacked(boxes: Sequence[Sequence[Sequence[float]]]) -> Tensor | None:
    """Boxes of images that have any number of them, ``(N, B, 4)``; None where no image has one.

    >>> stacked([[[0, 0, 2, 2]], [], [[1, 1, 2, 2], [0, 0, 1, 1]]]).shape
    torch.Size([3, 2, 4])
    """
    most = max(map(len, boxes), default=0)
    if most == 0:
        return None
    found = np.full((len(boxes), most, 4), np.nan, dtype=np.float32)
    for place, own in enumerate(boxes):
        if own:
            found[place, : len(own)], found[place, len(own) :] = own, own[0]
    return torch.from_numpy(found)


def boxes_of_both(first: object, second: object) -> Tensor | None:
    """The boxes of two sources, one after the other; None unless both have some."""
    one, other = boxes_of(first), boxes_of(second)
    if one is None or other is None:
        return None
    if one.ndim != other.ndim or one.shape[1] != other.shape[1]:
        one, other = (boxes if boxes.ndim == 3 else boxes[:, None] for boxes in (one, other))
        most = max(one.shape[1], other.shape[1])
        one, other = (
            torch.cat([boxes, boxes[:, :1].expand(-1, most - boxes.shape[1], 4)], 1) for boxes in (one, other)
        )
    return torch.cat([one, other])


def placed(boxes: Tensor, sides: Sequence[tuple[int, int]], size: tuple[int, int], crop: float) -> Tensor:
    """Boxes in the pixels of resized and cropped images.

    Args:
        boxes: of N images as they were.
        sides: height and width of each of them, N.
        size: height and width of all now.
        crop: share of the covering image that is kept.
    """
    every = boxes.view(len(boxes), -1, 4).tolist()
    found = [
        [place_box(box, side, size, crop) if box[0] == box[0] else box for box in own]
        for own, side in zip(every, sides, strict=True)
    ]
    return torch.tensor(found, dtype=torch.float32).view(boxes.shape)
