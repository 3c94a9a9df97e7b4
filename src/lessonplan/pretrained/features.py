"""What a frozen network makes of its input before its head, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lessonplan.data.view import View
from lessonplan.errors import LessonplanWarning
from lessonplan.network.untouched import asked

_ROWS = 32  # that are computed together, always as many: results may differ in the last bit with the batch's size
_LAYOUT = 1


def cache_folder(given: str | None = None) -> Path:
    """Where features are kept: as given, ``$LESSONPLAN_CACHE/features``, or below the user's cache folder."""
    if given is not None:
        return Path(given).expanduser()
    home = os.environ.get("LESSONPLAN_CACHE")
    if home:
        return Path(home).expanduser() / "features"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lessonplan" / "features"


class NoFeatures(Exception):
    """A network's logits are not what its head makes of vectors, once a pass; the text says why."""


class Backbone:
    """A network up to its head.

    Args:
        network: left as it is; whoever asks puts it into evaluation mode.
        head: name of the module that gives the logits.
    """

    def __init__(self, network: nn.Module, head: str) -> None:
        self.network, self.head = network, network.get_submodule(head)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, F)`` and logits of inputs ``(N, ...)``.

        Raises:
            NoFeatures: the head takes something else, or is asked twice.
        """
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            logits = self.network(x)
        finally:
            hook.remove()
        if len(seen) != 1 or not isinstance(seen[0], Tensor) or seen[0].ndim != 2:
            raise NoFeatures("its head does not take vectors")
        return seen[0].float(), logits

    @torch.no_grad()
    def length(self, x: Tensor) -> int:
        """The length of the features, if the head makes the logits of them alone.

        Raises:
            NoFeatures: something comes behind the head.
        """
        with asked(self.network):
            features, logits = self(x)
            again = self.head(features)
        if not (isinstance(logits, Tensor) and logits.shape == again.shape and torch.allclose(logits, again)):
            raise NoFeatures("something comes behind its head")
        return features.shape[1]


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on: two caches with the same key hold the same numbers.

    Attributes:
        weights: what tells the network's weights from others.
        preprocessing: of the inputs, as plain data.
        augment: of the views but the first, as text with its seed; None for one view.
    """

    weights: str
    preprocessing: dict[str, Any]
    augment: str | None = None

    def name(self, source: str) -> str:
        """The folder of a source's features."""
        text = json.dumps([_LAYOUT, source, self.weights, self.preprocessing, self.augment], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


class FeatureCache:
    """Features of a source's rows in several views, half precision, on disk; filled as rows are asked for.

    Every row has a checksum, so that what was damaged, or belongs to something else, is computed again.

    Args:
        folder: of this cache alone.
        rows: of the source.
        length: of a feature vector.
        views: how often each sample is seen: once as it is, then augmented.
    """

    def __init__(self, folder: Path, rows: int, length: int, views: int = 1) -> None:
        self.folder, self.shape = folder, (views, rows, length)

    def read(self, view: View, backbone: Backbone) -> Tensor:
        """Features of a view's samples, those that are missing computed first.

        Args:
            view: of the source; its own augmentation makes the views behind the first.
            backbone: on the view's device.

        Returns:
            ``(views, n, F)`` float16, or bfloat16 where a value is too large for it, on the CPU.
        """
        with _locked(self.folder), asked(backbone.network):
            if not (self.folder / "bfloat16.bin").exists():
                try:
                    return self._read(view, backbone, torch.float16)
                except OverflowError as error:
                    warnings.warn(
                        f"a feature is {error}, too large for half precision: features are kept as bfloat16,"
                        " with 8 bits of each number instead of 11",
                        LessonplanWarning,
                        stacklevel=2,
                    )
            return self._read(view, backbone, torch.bfloat16)

    def _read(self, view: View, backbone: Backbone, kind: torch.dtype) -> Tensor:
        views, rows, length = self.shape
        found = torch.zeros(views, len(view), length, dtype=kind)
        disk = _Disk(self.folder, str(kind).removeprefix("torch."), length)
        for number in range(views):
            places = view.rows.numpy() + number * rows
            held = disk.load(places, found[number])
            missing = torch.from_numpy(~held).nonzero().squeeze(1)
            for at, features in _computed(view, number, missing, backbone):
                found[number, at] = features.to(kind)
                if not torch.isfinite(found[number, at]).all() and torch.isfinite(features).all():
                    raise OverflowError(f"{features.abs().max().item():.3g}")
                disk.save(places[at.numpy()], found[number, at])
        return found


def _computed(view: View, number: int, missing: Tensor, backbone: Backbone) -> Iterator[tuple[Tensor, Tensor]]:
    """Places in a view and their features, some at a time; the first view is not augmented."""
    seen = view if number else view.with_augment(None)
    chunks = missing.split(_ROWS) if len(missing) else ()
    full = [chunk[torch.arange(_ROWS) % len(chunk)] for chunk in chunks]
    try:
        for chunk, (x, _) in zip(chunks, seen.batches(full, epoch=number), strict=True):
            yield chunk, backbone(x)[0][: len(chunk)].cpu()
    finally:
        seen.close()


class _Disk:
    """Rows of 16-bit numbers in a file, with a checksum each in another; rows that were never written are no hole.

    A disk that does not take them is told of, and asked no more.
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
        except OSError:
            return held
        likely = np.flatnonzero(places < min(len(sums), stored))
        likely = likely[sums[places[likely]] != 0]
        if not len(likely):
            return held
        values = np.memmap(self.values, np.int16, "r", shape=(stored, self.length))
        for at in likely.tolist():
            row = values[places[at]]
            if _sum(row) == sums[places[at]]:
                into[at] = torch.from_numpy(np.array(row)).view(into.dtype)
                held[at] = True
        return held

    def save(self, places: npt.NDArray[np.int64], features: Tensor) -> None:
        """Write ``(n, F)`` of 16 bits, each row's checksum behind it."""
        if not self.usable:
            return
        bits = features.contiguous().view(torch.int16).numpy()
        sums = np.array([_sum(row) for row in bits], np.uint32)
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


def _sum(row: npt.NDArray[np.int16]) -> int:
    """A checksum that is never 0, which means: not there."""
    return zlib.crc32(row.tobytes()) or 1


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time fills a cache; the others wait and find it filled."""
    if os.name != "posix":
        yield
        return
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError:  # nothing can be kept there, which is told of where it is tried
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
