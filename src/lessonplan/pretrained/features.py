"""What a frozen network makes of its input before its head, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lessonplan.data.view import View
from lessonplan.errors import LessonplanWarning
from lessonplan.lock import in_turn
from lessonplan.network.untouched import asked
from lessonplan.pretrained.files import digest_of
from lessonplan.pretrained.kept_rows import KeptRows
from lessonplan.progress import step

_ROWS = 32  # that are computed together, always as many: results may differ in the last bit with the batch's size
_LAYOUT = 2
_MOST = torch.finfo(torch.float16).max
_PROBED = 16  # features that a network's identity is told by


class NoFeatures(Exception):
    """A network's logits are not what its head makes of vectors, once a pass; the text says why."""


class Backbone:
    """A network up to its head.

    Args:
        network: left as it is; whoever asks puts it into evaluation mode.
        head: name of the module that gives the logits.
    """

    def __init__(self, network: nn.Module, head: str) -> None:
        self.network, self.name, self.head = network, head, network.get_submodule(head)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, F)`` and logits of inputs ``(N, ...)``.

        Raises:
            NoFeatures: the head takes something else, or is asked twice.
        """
        seen: list[tuple[Any, ...]] = []
        hook = self.head.register_forward_pre_hook(
            lambda _, args, named: seen.append((*args, *named.values())), with_kwargs=True
        )
        try:
            logits = self.network(x)
        finally:
            hook.remove()
        if len(seen) != 1 or len(seen[0]) != 1 or not isinstance(seen[0][0], Tensor) or seen[0][0].ndim != 2:
            raise NoFeatures("its head does not take vectors")
        return seen[0][0].float(), logits

    @torch.no_grad()
    def length(self, x: Tensor) -> int:
        """The length of the features, if the head makes the logits of them alone.

        Raises:
            NoFeatures: something comes behind the head.
        """
        with asked(self.network):
            features, _ = self(x)
            found = self.head(features)
            # Told by what becomes of other logits: a new head's are zeros, which a scale behind it would leave.
            other = torch.linspace(-1e3, 1e3, found.numel()).to(found).reshape(found.shape)
            hook = self.head.register_forward_hook(lambda *_: other)
            try:
                logits = self.network(x)
            finally:
                hook.remove()
        if not (isinstance(logits, Tensor) and logits.shape == other.shape and torch.equal(logits, other)):
            raise NoFeatures("something comes behind its head")
        return features.shape[1]

    @torch.no_grad()
    def identity(self, shape: tuple[int, ...]) -> str:
        """What tells the network before its head from others: its weights, its layers, and what it does.

        Args:
            shape: of one input.
        """
        modules, state = dict(self.network.named_modules()), self.network.state_dict()
        kinds = {name: type(modules[name]) for name in self._names(modules)}
        layers = [
            f"{name} {kind.__module__}.{kind.__qualname__} {modules[name].extra_repr()}"
            for name, kind in kinds.items()
        ]
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        probe = torch.linspace(-2, 2, math.prod(shape)).reshape(1, *shape).to(device)
        with asked(self.network):
            features = self(probe)[0][0].cpu()
        # To two digits: the last ones differ with the number of threads.
        some = features[:: max(1, len(features) // _PROBED)] / features.abs().max().clamp(min=1e-30)
        said = " ".join([*layers, *(f"{value:.2f}" for value in some.tolist())])
        weights = digest_of({name: state[name] for name in self._names(state)})
        return f"{weights} {hashlib.blake2b(said.encode(), digest_size=8).hexdigest()} {device.type}"

    def _names(self, names: Iterable[str]) -> list[str]:
        """Those that are not the head's."""
        return [name for name in names if name != self.name and not name.startswith(f"{self.name}.")]


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on: two caches with the same key hold the same numbers.

    Attributes:
        network: as ``Backbone.identity`` tells it.
        preprocessing: of the inputs, as plain data.
        augment: of the views but the first, as text with its seed; None for one view.
    """

    network: str
    preprocessing: dict[str, Any]
    augment: str | None = None

    def name(self, source: str) -> str:
        """The folder of a source's features."""
        text = json.dumps([_LAYOUT, source, self.network, self.preprocessing, self.augment], sort_keys=True)
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
        with in_turn(self.folder), asked(backbone.network):
            largest = self._too_large(view)
            if largest is None:
                try:
                    return self._read(view, backbone, torch.float16)
                except OverflowError as error:
                    largest = str(error)
            warnings.warn(
                f"a feature is {largest}, too large for half precision: features are kept as bfloat16, with 8 bits"
                " of each number instead of 11",
                LessonplanWarning,
                stacklevel=2,
            )
            return self._read(view, backbone, torch.bfloat16)

    def _read(self, view: View, backbone: Backbone, kind: torch.dtype) -> Tensor:
        disk = self._kept(kind)
        found = torch.zeros(self.shape[0], len(view), self.shape[2], dtype=kind)
        for number, places in enumerate(self._places(view)):
            held = disk.load(places, found[number])
            missing = torch.from_numpy(~held).nonzero().squeeze(1)
            what = "computing features" if number == 0 else f"computing features, view {number + 1}"
            with step(what, len(missing), "samples") as line:
                for at, features in _computed(view, number, missing, backbone):
                    found[number, at] = features.to(kind)
                    if kind == torch.float16 and (large := _largest(features)) > _MOST:
                        raise OverflowError(f"{large:.3g}")
                    disk.save(places[at.numpy()], found[number, at])
                    line.update(advance=len(at))
        return found

    def _too_large(self, view: View) -> str | None:
        """What half precision does not hold of this view's features, as they were kept before.

        Each view by itself: which numbers a run sees does not depend on what other runs have kept.
        """
        disk = self._kept(torch.bfloat16)
        wide = torch.zeros(len(view), self.shape[2], dtype=torch.bfloat16)
        for places in self._places(view):
            if disk.load(places, wide).any() and (large := _largest(wide)) > _MOST:
                return f"{large:.3g}"
        return None

    def _kept(self, kind: torch.dtype) -> KeptRows:
        return KeptRows(self.folder, str(kind).removeprefix("torch."), self.shape[2])

    def _places(self, view: View) -> list[npt.NDArray[np.int64]]:
        """Where a view's rows are kept, for each of the views of a sample."""
        return [view.rows.numpy() + number * self.shape[1] for number in range(self.shape[0])]


def _largest(features: Tensor) -> float:
    """The largest size of a number, as bfloat16 has it."""
    return float(features.bfloat16().float().abs().nan_to_num(nan=0.0, posinf=math.inf).max())


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
