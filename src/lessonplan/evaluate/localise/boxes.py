"""Boxes from maps, and how often they are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lessonplan.errors import ConfigError, DataError

_NEIGHBOURS = np.ones((3, 3), dtype=int)  # pixels that touch at a corner belong together


@dataclass(frozen=True)
class BoxAccuracy:
    """Localisation accuracy over thresholds.

    Attributes:
        best: MaxBoxAcc, the largest of them.
        threshold: where it is reached, in [0, 1) of a map's range.
        curve: accuracy at each threshold.
    """

    best: float
    threshold: float
    curve: dict[float, float]


def boxes_from_maps(maps: Tensor, threshold: float = 0.2) -> Tensor:
    """The tight box of the largest connected region where a map is at least ``threshold`` of its maximum.

    Args:
        maps: ``(N, H, W)`` in [0, 1], as ``resize_maps`` gives them.
        threshold: share of each map's maximum, in [0, 1]; .2 is CAM's (arXiv:1512.04150, section 4.2).

    Returns:
        ``(N, 4)`` int64: top, bottom, left, right; bottom and right exclusive. The whole image where a map is 0.

    >>> boxes_from_maps(torch.tensor([[[0.0, 0.9, 1.0], [0.3, 0.0, 0.0]]]), threshold=0.5)
    tensor([[0, 1, 1, 3]])
    """
    from scipy import ndimage

    _check_maps(maps)
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"threshold={threshold}: give a share of the map's maximum, in [0, 1]")
    boxes = []
    for heat in maps.detach().double().cpu().numpy():
        regions, count = ndimage.label(heat >= threshold * heat.max(), structure=_NEIGHBOURS)
        largest = 1
        if count > 1:
            largest = 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
        rows, columns = ndimage.find_objects(regions)[largest - 1]
        boxes.append((rows.start, rows.stop, columns.start, columns.stop))
    return torch.tensor(boxes)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes ``(N, 4)`` (top, bottom, left, right), pair by pair, ``(N,)``.

    It is 0 of two boxes without a pixel.

    >>> iou(torch.tensor([[0, 2, 0, 2]]), torch.tensor([[0, 2, 1, 3]]))
    tensor([0.3333])
    """
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 4:
        raise DataError(f"boxes of shapes {tuple(a.shape)} and {tuple(b.shape)}: give two times (N, 4)")
    low, high = torch.maximum(a[:, ::2], b[:, ::2]), torch.minimum(a[:, 1::2], b[:, 1::2])
    shared = (high - low).clamp(min=0).prod(1)
    return (shared / (_area(a) + _area(b) - shared)).nan_to_num(0.0)


def max_box_accuracy(
    maps: Tensor, boxes: Tensor, thresholds: Sequence[float] | None = None, *, at_least: float = 0.5
) -> BoxAccuracy:
    """MaxBoxAcc: share of images whose box has an IoU of at least .5, at the best threshold (arXiv:2001.07437).

    The best threshold is chosen on the same images; choose it on others where the number shall be a forecast.

    Args:
        maps: ``(N, H, W)`` in [0, 1], of the true classes.
        boxes: true boxes ``(N, 4)``: top, bottom, left, right, the last two of each pair exclusive; or
            ``(N, B, 4)``, of which any will do.
        thresholds: in [0, 1); None: 0, .05, ..., .95.
        at_least: the IoU that counts.
    """
    steps = [i / 20 for i in range(20)] if thresholds is None else list(thresholds)
    if not steps:
        raise ConfigError("there are no thresholds: give at least one")
    curve = {}
    for threshold in steps:
        hit = _meets(boxes_from_maps(maps, threshold), boxes.cpu(), at_least)
        curve[threshold] = hit.double().mean().item()
    best = max(steps, key=lambda t: curve[t])
    return BoxAccuracy(curve[best], best, curve)


def localisation_accuracy(
    maps: Tensor, boxes: Tensor, correct: Tensor, threshold: float = 0.2, *, at_least: float = 0.5
) -> float:
    """Top-1 localisation: share of images with the right class and a box of IoU at least .5 (lecture's table).

    Args:
        maps: ``(N, H, W)`` in [0, 1].
        boxes: true boxes ``(N, 4)``, or ``(N, B, 4)``, of which any will do.
        correct: ``(N,)`` bool, whether the class was right; all true gives localisation with known class.
        threshold: see ``boxes_from_maps``.
        at_least: the IoU that counts.
    """
    hit = _meets(boxes_from_maps(maps, threshold), boxes.cpu(), at_least)
    return (hit & correct.cpu()).double().mean().item()


def _meets(found: Tensor, boxes: Tensor, at_least: float) -> Tensor:
    """Whether each box that was found overlaps a true one enough, ``(N,)`` bool."""
    several = boxes if boxes.ndim == 3 else boxes[:, None]
    return torch.stack([iou(found, one) >= at_least for one in several.unbind(1)]).any(0)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 1::2] - boxes[:, ::2]).prod(1)


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 3 or len(maps) == 0:
        raise DataError(f"maps of shape {tuple(maps.shape)}: give at least one map, (N, H, W)")
    if not bool((maps >= 0).all()):
        raise DataError("some maps are negative or NaN: bring them to [0, 1] by resize_maps first")
