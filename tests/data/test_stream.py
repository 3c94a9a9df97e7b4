"""Batches that worker processes leave in memory which is used again and again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from lessonplan.data.stream import Job, Stream
from lessonplan.errors import DataError


class Numbers:
    """Images whose pixels are their row's number."""

    in_memory = False
    class_names = ("a", "b")
    fingerprint = "numbers"

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype = torch.uint8, bad: int | None = None) -> None:
        self.shape, self.dtype, self.bad = shape, dtype, bad
        self.labels = torch.zeros(200, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Tensor) -> Tensor:
        if self.bad is not None and bool((rows == self.bad).any()):
            raise DataError("a bad one")
        return rows.view(-1, *(1,) * len(self.shape)).expand(-1, *self.shape).to(self.dtype)


def stream(source: Numbers, *, workers: int = 2, prefetch: int = 2) -> Stream:
    return Stream(source, None, 0, workers, prefetch, pin=False, share=True)


def jobs(*sizes: int) -> list[Job]:
    ends = np.cumsum(sizes)
    return [(0, np.arange(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def check(found: list[Tensor], source: Numbers, *sizes: int) -> None:
    for batch, (_, rows) in zip(found, jobs(*sizes), strict=True):
        assert torch.equal(batch, source.read(torch.from_numpy(rows)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_batches_are_what_the_source_reads(dtype: torch.dtype) -> None:
    shape = (1, 3, 5) if dtype == torch.uint8 else (15,)
    source, sizes = Numbers(shape, dtype), (7, 6, 7, 5, 1, 7, 7, 3)
    reading = stream(source)
    for _ in range(2):
        check([batch.clone() for batch in reading.batches(jobs(*sizes))], source, *sizes)
    reading.close()


def test_memory_is_used_again() -> None:
    reading = stream(Numbers((1, 4, 4)), workers=1, prefetch=2)
    kept = list(reading.batches(jobs(*[10] * 12)))  # else their addresses might be given out again
    assert len({batch.data_ptr() for batch in kept}) <= 3
    reading.close()


def test_a_batch_stays_until_the_next_is_asked_for() -> None:
    source = Numbers((1, 40, 40))
    reading = stream(source, workers=2, prefetch=3)
    sizes = [4] * 20
    for batch, (_, rows) in zip(reading.batches(jobs(*sizes)), jobs(*sizes), strict=True):
        first = batch.clone()
        for other in reading.batches(jobs(*[4] * 3)):  # another loop has workers and memory of its own
            del other
        assert torch.equal(batch, first)
        assert torch.equal(first, source.read(torch.from_numpy(rows)))
    reading.close()


def test_larger_batches_than_the_first_come_whole() -> None:
    source = Numbers((6,), torch.float32)
    reading = stream(source)
    check([batch.clone() for batch in reading.batches(jobs(2, 9, 2, 30))], source, 2, 9, 2, 30)
    check([batch.clone() for batch in reading.batches(jobs(30, 2))], source, 30, 2)
    reading.close()


@pytest.mark.parametrize("error", [OSError("Cannot allocate memory"), OverflowError("too large")])
def test_without_memory_to_share_batches_come_whole(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise error

    source = Numbers((1, 4, 4))
    reading = stream(source)
    monkeypatch.setattr("lessonplan.data.stream.mmap.mmap", refused)
    check(list(reading.batches(jobs(3, 3, 3))), source, 3, 3, 3)
    reading.close()


def test_empty_batches_and_those_in_another_memory_format() -> None:
    source = Numbers((6,), torch.float32)
    reading = stream(source)
    check([batch.clone() for batch in reading.batches(jobs(0, 0, 5, 0))], source, 0, 0, 5, 0)
    reading.close()
    reading = stream(ChannelsLast((3, 4, 5)))
    for batch in reading.batches(jobs(4, 4)):
        assert batch.is_contiguous(memory_format=torch.channels_last)
        assert not batch.is_contiguous()
    reading.close()


class ChannelsLast(Numbers):
    def read(self, rows: Tensor) -> Tensor:
        return super().read(rows).contiguous(memory_format=torch.channels_last)


def test_memory_is_given_back_when_a_loop_ends() -> None:
    reading = stream(Numbers((1, 1000, 1000)), workers=1, prefetch=1)
    before = psutil.Process().memory_info().shared
    held = 0
    for batch in reading.batches(jobs(*[20] * 6)):
        assert int(batch.sum()) > 0
        held = max(held, psutil.Process().memory_info().shared - before)
    assert held > 18e6
    assert psutil.Process().memory_info().shared - before < held / 2
    reading.close()


def test_workers_that_have_died_are_replaced() -> None:
    source = Numbers((1, 4, 4))
    reading = stream(source)
    before = set(psutil.Process().children())
    check([batch.clone() for batch in reading.batches(jobs(*[5] * 6))], source, *[5] * 6)
    for worker in set(psutil.Process().children()) - before:
        worker.send_signal(signal.SIGINT)  # as a terminal sends it to all of a group
        until = time.monotonic() + 30
        while worker.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.01)  # psutil's wait would take the end of a child from those who look for it
    check([batch.clone() for batch in reading.batches(jobs(*[5] * 6))], source, *[5] * 6)
    reading.close()


def test_workers_of_a_loop_that_was_interrupted_end() -> None:
    def interrupted() -> Iterator[Job]:
        yield from jobs(*[5] * 6)
        raise KeyboardInterrupt

    source = Numbers((1, 4, 4))
    reading = stream(source)
    with pytest.raises(KeyboardInterrupt):
        list(reading.batches(interrupted()))
    assert not reading.idle
    check([batch.clone() for batch in reading.batches(jobs(*[5] * 6))], source, *[5] * 6)
    reading.close()


def test_a_loop_that_was_left_and_one_that_failed_leave_nothing_behind() -> None:
    source = Numbers((1, 4, 4), bad=50)
    reading = stream(source)
    left = reading.batches(jobs(*[5] * 8))
    next(left)
    left.close()
    check([batch.clone() for batch in reading.batches(jobs(*[5] * 10))], source, *[5] * 10)
    with pytest.raises(DataError, match="a bad one"):
        list(reading.batches(jobs(*[5] * 12)))
    check([batch.clone() for batch in reading.batches(jobs(*[5] * 10))], source, *[5] * 10)
    reading.close()


def test_no_jobs_start_no_workers() -> None:
    reading = stream(Numbers((1, 4, 4)))
    assert not list(reading.batches([]))
    assert not reading.idle
