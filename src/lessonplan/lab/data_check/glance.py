"""One pass over all pictures: thumbnails, brightness and contrast, each picture decoded once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lessonplan.lab.data_check.parts import Part, Samples
from lessonplan.progress import step

SIDE = 32
"""Pixels on a side of a thumbnail."""
BLANK = 2.0
"""Contrast, in grey levels, below which a picture shows nothing."""
_TOGETHER = 64
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Glance:
    """What is seen of N pictures.

    Attributes:
        thumbnails: ``(N, C, 32, 32)`` uint8, means over the pixels that each stands for.
        brightness: ``(N,)`` float32, mean grey level in [0, 255].
        contrast: ``(N,)`` float32, standard deviation of the grey level.
    """

    thumbnails: Tensor
    brightness: Tensor
    contrast: Tensor


def glance(samples: Samples, workers: int, seconds: float | None = None) -> Glance | None:
    """Look at all pictures.

    Args:
        samples: images ``(C, H, W)`` uint8.
        workers: threads that decode those that are not in memory.
        seconds: how long it may take; None: as long as it takes.

    Returns:
        what was seen, or None if it would take longer, as the first pictures show.
    """
    begun, done, found = time.monotonic(), 0, []
    with step("looking at pictures", len(samples), "pictures") as line:
        for piece in _read(samples.parts, workers):
            found.append(seen(piece))
            done += len(piece)
            line.update(done)
            passed = time.monotonic() - begun
            # The first piece pays for what is loaded when it is first used.
            if seconds is not None and done > _TOGETHER and passed * len(samples) / done > max(seconds, passed):
                return None
    return Glance(
        torch.cat([g.thumbnails for g in found]),
        torch.cat([g.brightness for g in found]),
        torch.cat([g.contrast for g in found]),
    )


def seen(images: Tensor) -> Glance:
    """The same of pictures ``(B, C, H, W)`` uint8."""
    x = images.float()
    grey = grey_of(x).flatten(1)
    small = F.interpolate(x, size=(SIDE, SIDE), mode="area").round().to(torch.uint8)
    return Glance(small, grey.mean(1), grey.std(1, correction=0))


def grey_of(images: Tensor) -> Tensor:
    """Grey levels ``(B, H, W)`` of images ``(B, C, H, W)`` float32 (ITU-R BT.601)."""
    if images.shape[1] == 1:
        return images[:, 0]
    return torch.einsum("bchw,c->bhw", images, torch.tensor(_GREY))


def _read(parts: list[Part], workers: int) -> Iterator[Tensor]:
    for part in parts:
        pieces = part.rows.split(_TOGETHER)
        if part.source.in_memory or workers < 2:
            yield from (part.source.read(rows).cpu() for rows in pieces)
            continue
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(pieces), 4 * workers):  # so that no more than these are held at once
                yield from pool.map(part.source.read, pieces[start : start + 4 * workers])
