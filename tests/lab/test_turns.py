"""In which order jobs are begun where several are done at a time."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.lab import turns
from lessonplan.lab.turns import AsTheyCome, LongestFirst

Job = tuple[str, int]


def held(
    jobs: list[Job], seconds: dict[str, float], processes: int, longest_first: bool = True
) -> tuple[float, list]:
    """When the last job ends, and the order in which they were begun."""
    running: list[tuple[float, int, Job]] = []
    now, order = 0.0, []
    waiting: AsTheyCome[Job] | LongestFirst[Job] = AsTheyCome(jobs)
    if longest_first:
        waiting = LongestFirst([(job, job[0]) for job in jobs], processes, lambda: now)
    while True:
        while len(running) < processes and (job := waiting.next()) is not None:
            order.append(job)
            heapq.heappush(running, (now + seconds[job[0]], len(order), job))
        if not running:
            return now, order
        now, _, job = heapq.heappop(running)
        waiting.over(job, seconds[job[0]])


def test_one_of_each_kind_then_the_longest_by_hand() -> None:
    """With two processes; nobody knows that b takes longest before the first of it is over."""
    jobs = [(kind, number) for kind in "abc" for number in range(3)]
    seconds = {"a": 1.0, "b": 5.0, "c": 2.0}
    end, order = held(jobs, seconds, 2)
    assert [f"{kind}{number}" for kind, number in order] == ["a0", "b0", "c0", "c1", "b1", "b2", "c2", "a1", "a2"]
    assert end == 12.0  # 24 seconds of work
    assert held(jobs, seconds, 2, longest_first=False) == (13.0, jobs)


@given(st.lists(st.tuples(st.integers(1, 6), st.floats(0.1, 10.0)), min_size=1, max_size=6), st.integers(1, 4))
def test_every_job_is_begun_once_and_none_waits_for_nothing(
    kinds: list[tuple[int, float]], processes: int
) -> None:
    jobs = [(str(kind), number) for kind, (count, _) in enumerate(kinds) for number in range(count)]
    seconds = {str(kind): each for kind, (_, each) in enumerate(kinds)}
    end, order = held(jobs, seconds, processes)
    assert sorted(order) == sorted(jobs)
    whole = sum(seconds[job[0]] for job in jobs)
    assert end <= whole / processes + max(seconds.values()) + 1e-9
    firsts = [job for job in order if job[1] == 0]
    assert order[: len(firsts)] == firsts  # every kind is begun before a second one of any


def test_jobs_without_a_kind_come_as_they_are() -> None:
    jobs = [("x", number) for number in range(5)]
    assert held(jobs, {"x": 1.0}, 2)[1] == jobs


def test_the_last_jobs_are_chosen_so_that_all_processes_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: at second 3 one process is free, and the other at 4; longest first ends 3 + 3 and 4 + 2 + 2."""
    jobs = [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 2), ("b", 3)]
    seconds = {"a": 3.0, "b": 2.0}
    assert held(jobs, seconds, 2) == (7.0, [("a", 0), ("b", 0), ("b", 1), ("b", 2), ("a", 1), ("b", 3)])
    monkeypatch.setattr(turns, "_LOOKED_AHEAD", 0)
    assert held(jobs, seconds, 2)[0] == 8.0


def test_what_is_left_over_at_the_end_is_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five kinds with five jobs each, such as the methods and seeds of a comparison."""
    random = np.random.default_rng(0)
    jobs = [(kind, number) for number in range(5) for kind in "abcde"]
    every = [dict(zip("abcde", random.uniform(5, 20, 5), strict=True)) for _ in range(30)]

    def mean_left_over() -> float:
        return float(np.mean([held(jobs, each, 2)[0] - 5 * sum(each.values()) / 2 for each in every]))

    now = mean_left_over()
    monkeypatch.setattr(turns, "_LOOKED_AHEAD", 0)
    assert now < 0.3 * mean_left_over()
