"""In which order jobs are begun where several are done at a time."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from statistics import fmean
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOKED_AHEAD = 100  # jobs left, from which on it is tried out how each choice would end


class AsTheyCome(Generic[T]):
    """Jobs one after the other.

    Args:
        jobs: may be a generator, which is asked for the next one as there is room for it.
    """

    def __init__(self, jobs: Iterable[T]) -> None:
        self._jobs: Iterator[T] = iter(jobs)

    def next(self) -> T | None:
        """The next job; None after the last."""
        return next(self._jobs, None)

    def over(self, job: T, seconds: float) -> None:
        """Nothing is learned from what a job took."""


class LongestFirst(Generic[T]):
    """One job of each kind, as they are given, then those that take longest, so that all processes end together.

    Short jobs are left for the end, where no process shall work long while others wait for it (R. L. Graham,
    Bounds on multiprocessing timing anomalies, 1969: a third above the best order at most where all times are
    known). Towards the end that rule is followed to the last job for each kind that may come next, and the kind
    with which the last process ends soonest is taken.

    Args:
        jobs: all of them with their kinds.
        processes: how many work on them.
        clock: seconds that have passed.
    """

    def __init__(
        self, jobs: Iterable[tuple[T, str]], processes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._waiting: dict[str, list[T]] = {}
        self._kinds: dict[int, str] = {}
        for job, kind in jobs:
            self._waiting.setdefault(kind, []).append(job)
            self._kinds[id(job)] = kind
        self._processes, self._clock = processes, clock
        self._begun: set[str] = set()
        self._since: dict[int, float] = {}
        self._took: dict[str, list[float]] = {}

    def next(self) -> T | None:
        """The next job; None after the last."""
        left = [kind for kind, jobs in self._waiting.items() if jobs]
        if not left:
            return None
        fresh = [kind for kind in left if kind not in self._begun]
        kind = fresh[0] if fresh else self._chosen(left)
        self._begun.add(kind)
        job = self._waiting[kind].pop(0)
        self._since[id(job)] = self._clock()
        return job

    def over(self, job: T, seconds: float) -> None:
        """Learn what a job took."""
        kind = self._kinds[id(job)]
        self._since.pop(id(job), None)
        self._took.setdefault(kind, []).append(seconds)

    def _chosen(self, left: list[str]) -> str:
        takes = {kind: fmean(seconds) for kind, seconds in self._took.items()}
        longest = max(left, key=lambda kind: takes.get(kind, 0.0))
        running = {job: self._kinds[job] for job in self._since}
        many = sum(len(self._waiting[kind]) for kind in left) > _LOOKED_AHEAD
        if many or not takes.keys() >= {*left, *running.values()}:
            return longest
        now = self._clock()
        free = [max(0.0, self._since[job] + takes[kind] - now) for job, kind in running.items()]
        free += [0.0] * (self._processes - len(free))  # one of them asks
        times = sorted((takes[kind] for kind in left for _ in self._waiting[kind]), reverse=True)
        ends = {kind: _end(free, takes[kind], times) for kind in left}
        return min(left, key=lambda kind: (ends[kind], -takes[kind]))


def _end(free: list[float], first: float, times: list[float]) -> float:
    """When the last process ends if the job that takes ``first`` comes next, and then always the longest.

    Args:
        free: when each process is free.
        first: one of ``times``.
        times: of all jobs that are left, longest first.
    """
    rest = [*times]
    rest.remove(first)
    heap = [*free]
    heapq.heapify(heap)
    for seconds in (first, *rest):
        heapq.heappush(heap, heapq.heappop(heap) + seconds)
    return max(heap)
