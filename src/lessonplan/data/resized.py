"""Images of a set whose readers leave them as they are, brought to another size or number of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lessonplan.data.base import Options, Parts, Source, content_keys, file_names, original_sizes, row_keys
from lessonplan.data.boxes import boxes_of, placed
from lessonplan.data.pixels import Decoding, fit
from lessonplan.errors import ConfigError
from lessonplan.progress import step

_TOGETHER = 256


class Resized:
    """Another source's images, resized to cover a size and cropped to its centre, as files are.

    Args:
        source: images ``(C, H, W)``.
        shape: what they become.
        decoding: how they are resized.
        memory_limit: sets that then take at most this many bytes are resized once and kept in memory.

    What is the same and what differs (``content_keys``) is decided by the images as they were.
    """

    def __init__(self, source: Source, shape: tuple[int, int, int], memory_limit: int, decoding: Decoding) -> None:
        self._source, self.shape, self._decoding = source, shape, decoding
        self.labels, self.class_names = source.labels, source.class_names
        self.fingerprint = f"{source.fingerprint} at {'x'.join(map(str, shape))}"
        self._keys = content_keys(source)
        sizes, own = original_sizes(source), torch.tensor([source.shape[1:]])
        self.sizes = own.expand(len(source), 2) if sizes is None else sizes
        boxes = boxes_of(source)
        side, size = (source.shape[1], source.shape[2]), (shape[1], shape[2])
        self.boxes = None if boxes is None else placed(boxes, [side] * len(source), size, decoding.crop or 1.0)
        self.in_memory = source.in_memory and len(source) * int(np.prod(shape)) <= memory_limit
        self._held = self._all() if self.in_memory else None

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` uint8 of rows ``(B,)``."""
        return self._resized(rows) if self._held is None else self._held.index_select(0, rows)

    def file_names(self, rows: Tensor) -> list[str] | None:
        """What the files of rows ``(B,)`` are called."""
        return file_names(self._source, rows)

    def content_keys(self) -> list[bytes]:
        """A key for every image, of its pixels before they were resized."""
        return row_keys(self.read(torch.arange(len(self)))) if self._keys is None else self._keys

    def _all(self) -> Tensor:
        out = torch.empty(len(self), *self.shape, dtype=torch.uint8)
        with step("resizing pictures", len(self), "pictures") as line:
            for rows in torch.arange(len(self)).split(_TOGETHER):
                out[rows] = self._resized(rows)
                line.update(advance=len(rows))
        return out

    def _resized(self, rows: Tensor) -> Tensor:
        channels, size = self.shape[0], self.shape[1:]
        images = self._source.read(rows).cpu().numpy()
        out = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for place, image in enumerate(images):
            out[place] = fit(image, channels, size, self._decoding)
        return torch.from_numpy(out)


def resized(parts: Parts, options: Options) -> Parts:
    """Parts whose images have the size and the channels that were asked for.

    Raises:
        ConfigError: a size was asked for of samples that are no images.
    """
    shape = parts.train.shape
    if options.image_size is None and options.channels is None:
        return parts
    if len(shape) != 3:
        raise ConfigError(
            f"samples of {shape[0]} features are no images of {options.image_size} pixels: give images, or leave"
            " image_size out"
        )
    wanted = (options.channels or shape[0], *(options.image_size or shape[1:]))

    parts.decoding = options.decided(parts.decoding)

    def change(source: Any) -> Any:
        return Resized(source, wanted, options.memory_limit, parts.decoding) if source.shape != wanted else source

    parts.train, parts.test = change(parts.train), change(parts.test) if parts.test is not None else None
    return parts
