"""The external batch: validation samples by which the effect of an update is judged."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from lessonplan.batch import Samples
from lessonplan.errors import ConfigError, DataError
from lessonplan.seeds import fold_seed

_CHUNK = 4096


class ExternalDraw:
    """Some of the validation samples, drawn anew for each epoch from the run's seed.

    Args:
        size: how many, at least 1; smaller validation sets are taken whole.
    """

    def __init__(self, size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError(f"loss-delta: external={size!r}: give a number of validation samples of at least 1")
        self.size = size
        self.epoch = 0
        self._batch: tuple[Tensor, Tensor] | None = None

    def start_epoch(self, epoch: int) -> None:
        """Draw another batch when it is next asked for."""
        self.epoch, self._batch = epoch, None

    def read(self, validation: Samples, seed: int) -> tuple[Tensor, Tensor]:
        """The samples ``(n, ...)`` and labels ``(n,)`` of this epoch."""
        if self._batch is None:
            generator = torch.Generator().manual_seed(fold_seed(seed, "external", self.epoch))
            drawn = torch.randperm(len(validation), generator=generator)[: self.size]
            self._batch = validation.fetch(drawn)
        return self._batch

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_batch": None}


def check_apart(data: Samples, validation: Samples | None) -> None:
    """Refuse an external batch that the network trains on.

    Rows of one source are compared by number, samples in memory by content; a streamed set is not decoded for it.

    Raises:
        ConfigError: there are no validation samples. DataError: some of them are training samples.
    """
    if validation is None or len(validation) == 0:
        raise ConfigError(
            "loss-delta:on=external judges updates by validation samples, but there are none: load data with"
            " val_fraction=0.2, say, or use on=same"
        )
    shared = _shared_rows(data, validation)
    if shared:
        raise DataError(
            f"{shared} of {len(validation)} external samples are training samples too: by these every update looks"
            " good; give validation samples of their own"
        )


def _shared_rows(data: Samples, validation: Samples) -> int:
    if data is validation:
        return len(validation)
    ours, theirs = getattr(data, "source", data), getattr(validation, "source", validation)
    if ours is theirs:
        rows, others = getattr(data, "rows", None), getattr(validation, "rows", None)
        if isinstance(rows, Tensor) and isinstance(others, Tensor):
            return int(torch.isin(others, rows).sum())
    if not (getattr(ours, "in_memory", False) and getattr(theirs, "in_memory", False)):
        return 0
    known = set(_digests(data))
    return sum(digest in known for digest in _digests(validation))


def _digests(samples: Any) -> list[bytes]:
    """A hash of every untouched sample (``raw``)."""
    parts = torch.arange(len(samples)).split(_CHUNK)
    return [
        hashlib.blake2b(row.numpy().tobytes(), digest_size=16).digest()
        for part in parts
        for row in samples.raw(part).cpu()
    ]
