"""Samples read ahead by worker processes, for sets too large to hold."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lessonplan.data.augment import Transform, apply_transform
from lessonplan.data.base import Source
from lessonplan.errors import LessonplanError

Job = tuple[int, npt.NDArray[np.int64]]  # epoch and source rows; an array, for a tensor would travel as a file


class _Jobs:
    """The batch sampler of a loader that is used again and again: its batches can be exchanged."""

    def __init__(self) -> None:
        self.current: Iterable[Job] = ()

    def __iter__(self) -> Iterator[Job]:
        return iter(self.current)


class _Reader(Dataset[Any]):
    """What runs in a worker: a whole batch by its rows, as one tensor."""

    def __init__(self, source: Source, transform: Transform | None, seed: int) -> None:
        self.source, self.transform, self.seed = source, transform, seed

    def __getitem__(self, job: Job) -> Tensor | LessonplanError:
        epoch, rows = job
        try:
            return read(self.source, torch.from_numpy(rows), self.transform, self.seed, epoch)
        except LessonplanError as error:  # comes back as a value: raised here it would carry a worker's traceback
            return error

    def __getitems__(self, job: Job) -> Tensor | LessonplanError:
        return self[job]


def read(source: Source, rows: Tensor, transform: Transform | None, seed: int, epoch: int) -> Tensor:
    """Raw samples of rows on the CPU, after the user's transform if there is one."""
    x = source.read(rows)
    return x if transform is None else apply_transform(transform, x.cpu(), rows, seed=seed, epoch=epoch)


def _as_is(batch: Any) -> Any:
    return batch


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
    """

    def __init__(
        self, source: Source, transform: Transform | None, seed: int, workers: int, prefetch: int, pin: bool
    ) -> None:
        self.reader = _Reader(source, transform, seed)
        self.workers, self.prefetch, self.pin = workers, prefetch, pin
        self.idle: list[tuple[_Jobs, DataLoader[Any]]] = []

    def batches(self, jobs: Iterable[Job]) -> Generator[Tensor, None, None]:
        """The samples of each job, in order; jobs are asked for only as far ahead as the prefetch goes."""
        sampler, loader = self.idle.pop() if self.idle else self._start()
        sampler.current = jobs
        try:
            for batch in loader:
                if isinstance(batch, LessonplanError):
                    raise batch
                yield batch
        finally:
            sampler.current = ()
            self.idle.append((sampler, loader))

    def _start(self) -> tuple[_Jobs, DataLoader[Any]]:
        jobs = _Jobs()
        sampler: Any = jobs  # yields jobs, where the loader's types speak of lists of indices
        loader: DataLoader[Any] = DataLoader(
            self.reader,
            batch_sampler=sampler,
            collate_fn=_as_is,
            num_workers=self.workers,
            prefetch_factor=self.prefetch,
            persistent_workers=True,
            pin_memory=self.pin,
            generator=torch.Generator(),  # a loader without one draws from the global generator
        )
        return jobs, loader

    def close(self) -> None:
        """End the workers that are not in use; those in use end with their loop."""
        while self.idle:
            _, loader = self.idle.pop()
            stop = getattr(getattr(loader, "_iterator", None), "_shutdown_workers", None)
            if stop is not None:
                stop()
