"""In which order jobs are begun where several are done at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


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
    """One job of each kind, as they are given, then always one of the kind that has taken longest.

    What is left at the end is short, so that no process works long while others wait for it (R. L. Graham, Bounds
    on multiprocessing timing anomalies, 1969: a third above the best order at most where all times are known).

    Args:
        jobs: all of them with their kinds.
    """

    def __init__(self, jobs: Iterable[tuple[T, str]]) -> None:
        self._waiting: dict[str, list[T]] = {}
        self._kinds: dict[int, str] = {}
        for job, kind in jobs:
            self._waiting.setdefault(kind, []).append(job)
            self._kinds[id(job)] = kind
        self._begun: set[str] = set()
        self._took: dict[str, float] = {}

    def next(self) -> T | None:
        """The next job; None after the last."""
        left = [kind for kind, jobs in self._waiting.items() if jobs]
        if not left:
            return None
        fresh = [kind for kind in left if kind not in self._begun]
        kind = fresh[0] if fresh else max(left, key=lambda kind: self._took.get(kind, 0.0))
        self._begun.add(kind)
        return self._waiting[kind].pop(0)

    def over(self, job: T, seconds: float) -> None:
        """Learn what a job took."""
        kind = self._kinds[id(job)]
        self._took[kind] = max(seconds, self._took.get(kind, 0.0))
