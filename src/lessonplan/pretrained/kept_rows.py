"""Rows of numbers in files that may be damaged, full or somebody else's."""

from __future__ import annotations

import os
import warnings
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lessonplan.errors import LessonplanWarning


class KeptRows:
    """Rows of 16-bit numbers in a file, with a checksum each in another; rows that were never written are no hole.

    A disk that does not take them is told of, and asked no more.

    Args:
        folder: of these rows alone; its name and a row's place are part of the checksum.
        kind: of the numbers, for the files' names.
        length: of a row.
    """

    def __init__(self, folder: Path, kind: str, length: int) -> None:
        self.values, self.sums = folder / f"{kind}.bin", folder / f"{kind}.sums"
        self.length, self.usable = length, True

    def load(self, places: npt.NDArray[np.int64], into: Tensor) -> npt.NDArray[np.bool_]:
        """Put what is there into ``(n, F)``; returns ``(n,)``, whose it was."""
        held = np.zeros(len(places), np.bool_)
        try:
            sums = np.fromfile(self.sums, np.uint32)
            stored = self.values.stat().st_size // (2 * self.length)
            likely = np.flatnonzero(places < min(len(sums), stored))
            likely = likely[sums[places[likely]] != 0]
            if not len(likely):
                return held
            values = np.memmap(self.values, np.int16, "r", shape=(stored, self.length))
        except OSError:
            return held
        for at in likely.tolist():
            row = values[places[at]]
            if self._sum(row, int(places[at])) == sums[places[at]]:
                into[at] = torch.from_numpy(np.array(row)).view(into.dtype)
                held[at] = True
        return held

    def save(self, places: npt.NDArray[np.int64], features: Tensor) -> None:
        """Write ``(n, F)`` of 16 bits, each row's checksum behind it."""
        if not self.usable:
            return
        bits = features.contiguous().view(torch.int16).numpy()
        sums = np.array(
            [self._sum(row, place) for row, place in zip(bits, places.tolist(), strict=True)], np.uint32
        )
        try:
            self.values.parent.mkdir(parents=True, exist_ok=True)
            for path, content in ((self.values, bits), (self.sums, sums[:, None])):
                size = content.itemsize * content.shape[1]
                with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
                    for place, row in zip(places.tolist(), content, strict=True):
                        file.seek(place * size)
                        file.write(row.tobytes())
        except OSError as error:
            self.usable = False
            warnings.warn(
                f"features cannot be kept in {self.values.parent} ({error.strerror or error}): they are computed"
                " for this run alone; free some space, or give feature_cache=FOLDER",
                LessonplanWarning,
                stacklevel=2,
            )

    def _sum(self, row: npt.NDArray[np.int16], place: int) -> int:
        """A checksum of a row in its place that is never 0, which means: not there."""
        return zlib.crc32(row.tobytes(), zlib.crc32(f"{self.values.parent.name} {place}".encode())) or 1
