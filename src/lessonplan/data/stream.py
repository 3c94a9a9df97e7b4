"""Samples read ahead by worker processes, for sets too large to hold."""

from __future__ import annotations

import math
import mmap
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_start_method
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lessonplan.data.augment import Transform, apply_transform
from lessonplan.data.base import Source
from lessonplan.errors import LessonplanError

Job = tuple[int, npt.NDArray[np.int64]]  # epoch and source rows; an array, for a tensor would travel as a file


_ROOM = 32 * 2**20  # bytes of a slot at least; what is not written takes no memory


class _Slots:
    """Memory that this process shares with its workers: a batch is written there, and its number alone travels.

    A tensor of its own for each batch costs some milliseconds of this process: it asks the worker for a file, and
    every page of it is new. Workers have the memory because they are forked; it lies nowhere in ``/dev/shm``, of
    which containers have little.

    Args:
        count: batches that are on their way or in use at once.
        size: bytes of the largest that is expected.

    Raises:
        OSError, OverflowError: the system does not give so much.
    """

    def __init__(self, count: int, size: int) -> None:
        self._size = -(-max(size, _ROOM) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, count * self._size)
        self._table = torch.frombuffer(self._memory, dtype=torch.uint8).view(count, self._size)
        self.free = list(range(count))

    def at(self, slot: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The batch in a slot."""
        there: Tensor = self._table[slot, : math.prod(shape) * dtype.itemsize]
        return there.view(dtype).view(shape)

    def hold(self, batch: Tensor) -> bool:
        """Whether a batch fits into one, and would come out as it went in."""
        return batch.is_contiguous() and batch.numel() * batch.element_size() <= self._size

    def forget(self) -> None:
        """Give the memory back until it is written again."""
        self.free = list(range(len(self._table)))
        if hasattr(mmap, "MADV_REMOVE"):
            with suppress(OSError):  # not every kernel can
                self._memory.madvise(mmap.MADV_REMOVE)


class _Placed(NamedTuple):
    """Where a worker has left a batch."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class _Jobs:
    """The batch sampler of a loader that is used again and again: its batches can be exchanged.

    Each job goes out with a free slot for its batch, as long as there is one.
    """

    def __init__(self, slots: _Slots | None) -> None:
        self.current: Iterable[Job] = ()
        self.slots = slots

    def __iter__(self) -> Iterator[tuple[Job, int | None]]:
        for job in self.current:
            yield job, self.slots.free.pop() if self.slots is not None and self.slots.free else None


class _Reader(Dataset[Any]):
    """What runs in a worker: a whole batch by its rows, as one tensor."""

    def __init__(self, source: Source, transform: Transform | None, seed: int, slots: _Slots | None) -> None:
        self.source, self.transform, self.seed, self.slots = source, transform, seed, slots

    def __getitem__(self, asked: tuple[Job, int | None]) -> tuple[int | None, Tensor | _Placed | LessonplanError]:
        (epoch, rows), slot = asked
        try:
            batch = read(self.source, torch.from_numpy(rows), self.transform, self.seed, epoch)
        except LessonplanError as error:  # comes back as a value: raised here it would carry a worker's traceback
            return slot, error
        if slot is None or self.slots is None or not self.slots.hold(batch):
            return slot, batch
        self.slots.at(slot, tuple(batch.shape), batch.dtype).copy_(batch)
        return slot, _Placed(tuple(batch.shape), batch.dtype)

    def __getitems__(self, asked: tuple[Job, int | None]) -> tuple[int | None, Tensor | _Placed | LessonplanError]:
        return self[asked]


def read(source: Source, rows: Tensor, transform: Transform | None, seed: int, epoch: int) -> Tensor:
    """Raw samples of rows on the CPU, after the user's transform if there is one."""
    x = source.read(rows)
    return x if transform is None else apply_transform(transform, x.cpu(), rows, seed=seed, epoch=epoch)


def _as_is(batch: Any) -> Any:
    return batch


@dataclass
class _Loader:
    """Worker processes with the jobs that they are given, and the memory where they leave batches."""

    jobs: _Jobs
    loader: DataLoader[Any]

    def batches(self, jobs: Iterable[Job]) -> Generator[Tensor, None, None]:
        """The samples of each job, in order, each until the next one is asked for."""
        slots, self.jobs.current = self.jobs.slots, jobs
        try:
            for slot, batch in self.loader:
                if isinstance(batch, LessonplanError):
                    raise batch
                if isinstance(batch, _Placed):
                    assert slots is not None
                    yield slots.at(slot, *batch)
                else:
                    yield batch
                if slot is not None and slots is not None:
                    slots.free.append(slot)
        finally:
            self.jobs.current = ()
            if slots is not None:
                # Jobs of a loop that was left are done, and forgotten, before the loader gives out others.
                slots.forget()

    @property
    def lives(self) -> bool:
        """Whether all of its workers do; Ctrl-C at a terminal reaches them too."""
        return all(worker.is_alive() for worker in getattr(self._iterator, "_workers", ()))

    def stop(self) -> None:
        """End its workers."""
        stop = getattr(self._iterator, "_shutdown_workers", None)
        if stop is not None:
            stop()

    @property
    def _iterator(self) -> Any:
        return getattr(self.loader, "_iterator", None)


class Stream:
    """Batches of a source by worker processes that stay alive from one call to the next.

    At most ``workers * prefetch`` batches are ahead of the reader, whatever the number of batches asked for.
    Loops may run inside one another: each has workers of its own.

    Args:
        source: what to read; it is copied into each worker.
        transform: the user's function of one sample, run in the workers.
        seed: its key.
        workers: number of processes, at least 1.
        prefetch: batches each of them prepares ahead.
        pin: whether batches are put in page-locked memory, for copies to a CUDA device.
        share: whether workers write batches into memory that is used again: whoever takes a batch is done with it
            when the next one is asked for, which a copy that is made in the background may not be.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform | None,
        seed: int,
        workers: int,
        prefetch: int,
        pin: bool,
        share: bool,
    ) -> None:
        self.source, self.transform, self.seed = source, transform, seed
        self.workers, self.prefetch, self.pin, self.share = workers, prefetch, pin, share
        self.idle: list[_Loader] = []

    def batches(self, jobs: Iterable[Job]) -> Generator[Tensor, None, None]:
        """The samples of each job, in order; jobs are asked for only as far ahead as the prefetch goes.

        A batch may be overwritten when the next one is asked for (``share``).
        """
        jobs = iter(jobs)
        first = next(jobs, None)
        if first is None:
            return
        loader = self._idle_one() or self._start(len(first[1]))
        try:
            yield from loader.batches(chain([first], jobs))
        except (GeneratorExit, LessonplanError):
            self.idle.append(loader)
            raise
        except BaseException:  # in the middle of what workers and loader tell one another
            loader.stop()
            raise
        self.idle.append(loader)

    def _idle_one(self) -> _Loader | None:
        """Workers that have nothing to do."""
        while self.idle:
            loader = self.idle.pop()
            if loader.lives:
                return loader
            loader.stop()
        return None

    def _start(self, samples: int) -> _Loader:
        """Workers for batches of so many samples; larger ones travel as tensors, all where none is shared."""
        shape = self.source.shape
        kind = torch.uint8 if len(shape) == 3 else torch.float32
        slots = None
        if self.share and get_start_method() == "fork":
            with suppress(OSError, OverflowError):
                slots = _Slots(self.workers * self.prefetch + 1, samples * math.prod(shape) * kind.itemsize)
        jobs = _Jobs(slots)
        sampler: Any = jobs  # yields jobs, where the loader's types speak of lists of indices
        loader: DataLoader[Any] = DataLoader(
            _Reader(self.source, self.transform, self.seed, slots),
            batch_sampler=sampler,
            collate_fn=_as_is,
            num_workers=self.workers,
            prefetch_factor=self.prefetch,
            persistent_workers=True,
            pin_memory=self.pin,
            generator=torch.Generator(),  # a loader without one draws from the global generator
        )
        return _Loader(jobs, loader)

    def close(self) -> None:
        """End the workers that are not in use; those in use end with their loop."""
        while self.idle:
            self.idle.pop().stop()
