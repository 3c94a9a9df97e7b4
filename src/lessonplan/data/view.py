"""Some rows of a source as a network sees them: normalised, on the device, augmented where wanted."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lessonplan.data.augment import Augment
from lessonplan.data.base import Source, file_names
from lessonplan.data.boxes import boxes_of
from lessonplan.data.corrupt import NoisyLabels
from lessonplan.data.normalise import Normalise
from lessonplan.data.stream import Job, Stream, read
from lessonplan.errors import ConfigError
from lessonplan.network.accelerator import is_accelerator
from lessonplan.rows import rows_of

_GATHERED = 2**18  # numbers that are fetched together at most, 1 MB
_LINE = 16  # float32 numbers of a cache line


class View:
    """Rows of a source, answered by position: ``fetch(indices, epoch) -> (x, y)``.

    Sets in memory lie on the device as they are (uint8 for images) and are augmented there by the batch;
    others are read ahead by worker processes. Either way the pixels of a sample are a function of
    (seed, epoch, its row in the source) alone.

    It is a ``torch.utils.data.Dataset`` as well: ``DataLoader(data.train, batch_size=64, shuffle=True)``. A sample
    that is asked for again in this way gets the next epoch's augmentation, whichever worker is asked.

    Args:
        source: raw samples.
        rows: ``(n,)`` int64 rows of the source that belong to this view.
        normalise: from raw samples to the network's input.
        augment: what changes each epoch; None is nothing.
        seed: key of the augmentation.
        device: where batches go.
        workers: processes that read ahead, for sources that are not in memory; 0 reads in this process.
        prefetch: batches each of them prepares ahead.
        noise: labels to teach instead of the source's own; None keeps those.

    Attributes:
        labels: ``(n,)`` int64 on the CPU, as :meth:`fetch` hands them out.
        clean_labels: ``(n,)`` int64 on the CPU, as the source has them.
        corrupted: ``(n,)`` bool on the CPU, whose label is noise (:func:`lessonplan.data.corrupt.corrupt`).
        boxes: ``(n, 4)`` or ``(n, B, 4)`` float32, left, top, right, bottom of the object (of each, see
            ``lessonplan.data.boxes``) in pixels of the untouched samples; None where the source does not know.
        num_classes: number of classes of the source.
    """

    def __init__(
        self,
        source: Source,
        rows: Tensor,
        *,
        normalise: Normalise,
        augment: Augment | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        workers: int = 2,
        prefetch: int = 2,
        noise: NoisyLabels | None = None,
    ) -> None:
        if augment is not None:
            augment.check(source.shape)
        if workers < 0 or prefetch < 1:
            raise ConfigError(f"workers={workers}, prefetch={prefetch}: give 0 or more workers, prefetch >= 1")
        self.source, self.rows = source, rows.to(torch.int64).cpu()
        self._take_labels(noise)
        self.num_classes = len(source.class_names)
        self.augment, self.seed = augment, seed
        self.workers, self.prefetch = workers, prefetch
        self._normalise = normalise
        self._count_draws()
        self._place(torch.device(device))

    def _place(self, device: torch.device) -> None:
        """Put what batches are made from on a device."""
        source, self.device = self.source, device
        self._here = self._normalise.to(self.device)
        self._elsewhere = self.device.type != "cpu"
        self._store: Tensor | None = None
        self._places = (self.rows, self.labels)
        if self._elsewhere:
            self._places = (self.rows.to(self.device), self.labels.to(self.device))
            if source.in_memory:
                self._store = source.read(self.rows).to(self.device)
        self._stream = self._new_stream()

    def _new_stream(self) -> Stream:
        transform = self.augment.transform if self.augment is not None else None
        pin = is_accelerator(self.device) and self.device.type != "mps"
        share = not self._elsewhere
        return Stream(self.source, transform, self.seed, self.workers, self.prefetch, pin, share)

    def _take_labels(self, noise: NoisyLabels | None) -> None:
        self.noise, self.clean_labels = noise, self.source.labels[self.rows]
        self.labels = self.clean_labels if noise is None else noise.labels
        self.corrupted = torch.zeros(len(self.rows), dtype=torch.bool) if noise is None else noise.corrupted
        boxes = boxes_of(self.source)
        self.boxes: Tensor | None = None if boxes is None else boxes[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def varies(self) -> bool:
        """Whether a sample is not the same in every epoch."""
        return self.augment is not None and str(self.augment) != "none"

    @property
    def reads_ahead(self) -> bool:
        """Whether ``batches`` reads ahead in worker processes."""
        return not self.source.in_memory and self.workers > 0

    @property
    def gathers(self) -> bool:
        """Whether ``batches`` fetches several at once: of small samples in memory to ask costs more than to read.

        Rows fill whole lines of a cache, so that a batch lies in memory as if it had been fetched alone, and every
        kernel finds the same bits.
        """
        numbers = math.prod(self.source.shape)
        return self.source.in_memory and numbers % _LINE == 0 and 0 < 2 * numbers <= _GATHERED

    def _count_draws(self) -> None:
        """How often each sample was an item of a DataLoader, in memory that workers share; None where it is always
        the same."""
        self._draws = torch.zeros(len(self.rows), dtype=torch.int32).share_memory_() if self.varies else None

    def set_epoch(self, epoch: int) -> None:
        """Say which draw of the augmentation a DataLoader's items are from here on, where training is resumed."""
        if self._draws is not None:
            self._draws.fill_(epoch)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """A sample ``shape`` and its label ``()``; see the class for its augmentation."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Many samples, which are augmented together; a DataLoader asks for its batches in this way.

        Raises:
            ConfigError: the samples are on an accelerator, and a worker process asks.
        """
        if self._elsewhere and get_worker_info() is not None:
            raise ConfigError(
                f"the samples are on {self.device}, where a DataLoader's worker cannot reach them: give"
                " num_workers=0"
            )
        at = torch.as_tensor(indices, dtype=torch.int64)
        if self._draws is None:
            return list(zip(*self.fetch(at), strict=True))
        epochs = self._draws[at]
        self._draws[at] += 1
        found: list[tuple[Tensor, Tensor]] = [None] * len(at)  # type: ignore[list-item]
        for epoch in epochs.unique().tolist():
            places = (epochs == epoch).nonzero().squeeze(1)
            x, y = self.fetch(at[places], epoch)
            for place, *sample in zip(places.tolist(), x, y, strict=True):
                found[place] = (sample[0], sample[1])
        return found

    def fetch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Samples and labels by position in this view.

        Args:
            indices: ``(B,)`` int64, each in ``[0, len(self))``, on any device; repeats are allowed.
            epoch: which draw of the augmentation.

        Returns:
            x: ``(B, *shape)`` float32 on the device, normalised, augmented if this view augments.
            y: ``(B,)`` int64 on the device.
        """
        transform = self.augment.transform if self.augment is not None else None
        if self._store is not None and transform is None:
            here = indices.to(self.device, non_blocking=True)
            return self._finish(rows_of(self._store, here), here, epoch)
        rows = self.rows[indices.cpu()]
        return self._finish(read(self.source, rows, transform, self.seed, epoch), indices, epoch)

    def batches(self, index_batches: Iterable[Tensor], epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The same as :meth:`fetch` for each batch of indices, lazily.

        Args:
            index_batches: batches of positions, perhaps without end. Of a streamed source at most
                ``workers * prefetch`` (and one) are taken ahead of the batch that is handed out, of small samples
                in memory as many as 1 MB holds.
            epoch: which draw of the augmentation.
        """
        if not self.reads_ahead:
            most = _GATHERED // math.prod(self.source.shape) if self.gathers else 0
            for together in _groups(index_batches, most):
                x, y = self.fetch(torch.cat(together) if len(together) > 1 else together[0], epoch)
                sizes = [len(indices) for indices in together]
                yield from zip(x.split(sizes), y.split(sizes), strict=True)
            return
        ahead: deque[Tensor] = deque()

        def jobs() -> Iterator[Job]:
            for indices in index_batches:
                ahead.append(indices)
                yield epoch, self.rows[indices.cpu()].numpy()

        raw = self._stream.batches(jobs())
        try:
            for x in raw:
                yield self._finish(x, ahead.popleft(), epoch)
        finally:
            # Closed by name: left to the garbage collector, an abandoned loop would keep its workers.
            raw.close()

    def _finish(self, x: Tensor, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Raw samples to the device, augmented and normalised, with their labels."""
        at = indices.to(self.device, non_blocking=True)
        return self._here(self._changed(x, at, epoch)), self._places[1][at]

    def _changed(self, x: Tensor, at: Tensor, epoch: int) -> Tensor:
        """Raw samples to the device, augmented."""
        x = x.to(self.device, non_blocking=True)
        return x if self.augment is None else self.augment(x, self._places[0][at], seed=self.seed, epoch=epoch)

    def pixels(self, indices: Tensor, epoch: int = 0) -> Tensor:
        """What :meth:`fetch` normalises, ``(B, *shape)`` on the device: samples of a picture's type, augmented.

        Args:
            indices: ``(B,)`` int64 positions in this view.
            epoch: which draw of the augmentation.
        """
        transform = self.augment.transform if self.augment is not None else None
        raw = read(self.source, self.rows[indices.cpu()], transform, self.seed, epoch)
        return self._changed(raw, indices.to(self.device), epoch)

    def raw(self, indices: Tensor) -> Tensor:
        """Untouched samples ``(B, *shape)`` on the CPU: uint8 for images, float32 for features."""
        return self.source.read(self.rows[indices.cpu()])

    def file_names(self, indices: Tensor) -> list[str] | None:
        """What the files of samples are called, as paths below their folder; None where the source has none."""
        return file_names(self.source, self.rows[indices.cpu()])

    def with_augment(self, augment: Augment | None) -> View:
        """The same rows under another augmentation; what lies on the device is shared."""
        if augment is not None:
            augment.check(self.source.shape)
        other = copy.copy(self)
        other.augment = augment
        other._count_draws()
        other._stream = other._new_stream()
        return other

    def on(self, device: torch.device) -> View:
        """The same rows with their batches on another device."""
        other = copy.copy(self)
        other._place(device)
        return other

    def normalised(self, normalise: Normalise) -> View:
        """The same rows under another normalisation."""
        other = copy.copy(self)
        other._normalise, other._here = normalise, normalise.to(self.device)
        return other

    def close(self) -> None:
        """End the worker processes; the view can be used again and starts new ones."""
        self._stream.close()


def _groups(batches: Iterable[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Batches of indices that follow one another, as many together as have at most so many indices, or one."""
    group: list[Tensor] = []
    total = 0
    for batch in batches:
        if group and total + len(batch) > most:
            yield group
            group, total = [], 0
        group.append(batch)
        total += len(batch)
    if group:
        yield group
