"""Images in the middle of a black frame, as the code of ASSIST's author pads MNIST to 32 x 32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lessonplan.data.base import Parts, Source, content_keys, file_names, original_sizes, row_keys
from lessonplan.data.boxes import boxes_of
from lessonplan.data.pixels import Pixels
from lessonplan.errors import ConfigError

Size = tuple[int, int]


def margins(own: Size, frame: Size) -> tuple[int, int, int, int]:
    """Rows above and below, columns left and right of an image in a frame; an odd one is below, or right.

    >>> margins((28, 28), (32, 33))
    (2, 2, 2, 3)
    """
    tall, wide = frame[0] - own[0], frame[1] - own[1]
    return tall // 2, tall - tall // 2, wide // 2, wide - wide // 2


def framed(pixels: Pixels, frame: Size) -> Pixels:
    """Pixels ``(C, h, w)`` in the middle of zeros ``(C, H, W)``."""
    above, below, left, right = margins((pixels.shape[1], pixels.shape[2]), frame)
    return np.pad(pixels, ((0, 0), (above, below), (left, right)))


class Padded:
    """Another source's images, each in the middle of a black frame.

    Args:
        source: images ``(C, h, w)``.
        frame: ``(H, W)``, no smaller.
        memory_limit: sets that then take at most this many bytes are padded once and kept in memory.

    What is the same and what differs (``content_keys``) is decided by the images as they were.
    """

    def __init__(self, source: Source, frame: Size, memory_limit: int) -> None:
        self._source = source
        self.shape = (source.shape[0], *frame)
        self._margins = margins((source.shape[1], source.shape[2]), frame)
        self.labels, self.class_names = source.labels, source.class_names
        self.fingerprint = f"{source.fingerprint} in {frame[0]}x{frame[1]}"
        self._keys = content_keys(source)
        self.sizes = original_sizes(source)
        above, _, left, _ = self._margins
        boxes = boxes_of(source)
        self.boxes = None if boxes is None else boxes + torch.tensor([left, above, left, above])
        self.in_memory = source.in_memory and len(source) * int(np.prod(self.shape)) <= memory_limit
        self._held = self._padded(torch.arange(len(source))) if self.in_memory else None

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` uint8 of rows ``(B,)``."""
        return self._padded(rows) if self._held is None else self._held.index_select(0, rows)

    def file_names(self, rows: Tensor) -> list[str] | None:
        """What the files of rows ``(B,)`` are called."""
        return file_names(self._source, rows)

    def content_keys(self) -> list[bytes]:
        """A key for every image, of its pixels before they were padded."""
        return row_keys(self.read(torch.arange(len(self)))) if self._keys is None else self._keys

    def _padded(self, rows: Tensor) -> Tensor:
        above, below, left, right = self._margins
        return F.pad(self._source.read(rows), (left, right, above, below))


def padded(parts: Parts, frame: Size | None, memory_limit: int) -> Parts:
    """Parts whose images stand in the frame that was asked for.

    Raises:
        ConfigError: samples that are no images, or images that are larger than the frame.
    """
    if frame is None:
        return parts
    shape = parts.train.shape
    if len(shape) != 3 or parts.audio is not None:
        what = "recordings" if parts.audio is not None else f"samples of {shape[0]} features"
        raise ConfigError(f"{what} have no frame of {frame[0]} x {frame[1]} pixels: give images, or leave pad out")
    if shape[1] > frame[0] or shape[2] > frame[1]:
        raise ConfigError(
            f"images of {shape[1]} x {shape[2]} pixels do not fit into a frame of {frame[0]} x {frame[1]}: give a"
            " larger pad, or image_size, to which they are brought before"
        )

    def change(source: Any) -> Any:
        return Padded(source, frame, memory_limit) if tuple(source.shape[1:]) != frame else source

    parts.train, parts.test = change(parts.train), change(parts.test) if parts.test is not None else None
    return parts
