"""Splits, permutations, survivors, and the search in memory against a search by hand."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.order.perfect import (
    Engine,
    batch_split,
    choose_survivors,
    count_permutations,
    perfect_ordering,
    permutations,
    tree_updates,
)
from lessonplan.order.perfect.permutations import unranked


@given(samples=st.integers(2, 60), size=st.integers(1, 59), seed=st.integers(0, 10**6))
def test_a_split_holds_every_sample_once(samples: int, size: int, seed: int) -> None:
    if size >= samples:
        with pytest.raises(ConfigError, match="one order"):
            batch_split(samples, size, seed)
        return
    batches = batch_split(samples, size, seed)
    assert sorted(torch.cat(batches).tolist()) == list(range(samples))
    assert [len(b) for b in batches[:-1]] == [size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= size


def test_splits_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = batch_split(48, 8, 1)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, batch_split(48, 8, 1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, batch_split(48, 8, 2), strict=True))
    with pytest.raises(ConfigError, match="batch_size=0"):
        batch_split(48, 0, 1)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_all_permutations_are_those_of_itertools(n: int) -> None:
    expected = list(itertools.permutations(range(n)))
    assert [tuple(order) for order in permutations(n).tolist()] == expected
    assert [tuple(unranked(rank, n)) for rank in range(math.factorial(n))] == expected


@given(n=st.integers(2, 7), wanted=st.integers(1, 400), seed=st.integers(0, 1000))
def test_sampled_permutations_are_distinct_valid_and_sorted(n: int, wanted: int, seed: int) -> None:
    orders = permutations(n, at_most=wanted, seed=seed).tolist()
    assert len(orders) == count_permutations(n, wanted) == min(wanted, math.factorial(n))
    assert len({tuple(order) for order in orders}) == len(orders)
    assert orders == sorted(orders)
    assert all(sorted(order) == list(range(n)) for order in orders)


def test_sampled_permutations_are_uniform_and_do_not_enumerate() -> None:
    counts = np.zeros(24)
    place = {order: row for row, order in enumerate(itertools.permutations(range(4)))}
    for seed in range(1200):
        for order in permutations(4, at_most=2, seed=seed).tolist():
            counts[place[tuple(order)]] += 1
    assert ((counts - 100) ** 2 / 100).sum() < 49.7  # chi squared, 23 degrees of freedom, p = .001
    state = random.getstate()
    assert permutations(300, at_most=5, seed=0).shape == (5, 300)  # 300! has 615 digits
    assert random.getstate() == state


def test_too_many_permutations_are_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"12 batches have 479,001,600 permutations: give max_permutations"):
        permutations(12)
    with pytest.raises(ConfigError, match=r"10\^3\d\d\d permutations"):
        permutations(1200)
    with pytest.raises(ConfigError, match="max_permutations=0"):
        permutations(4, at_most=0)


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_updates_of_a_tree_are_its_beginnings(n: int) -> None:
    orders = list(itertools.permutations(range(n)))
    beginnings = {order[:depth] for order in orders for depth in range(1, n + 1)}
    assert tree_updates(n) == len(beginnings)


def test_survivors_are_the_members_nearest_the_centres() -> None:
    # three groups far apart: k-means finds them, whose means can be taken by hand
    loss = torch.tensor([1.0, 1.1, 1.4, 9.0, 9.4, 9.5, 5.0, 5.3, 5.1])
    assert choose_survivors(loss, 3).tolist() == [1, 8, 4]  # nearest to 1.1667, 5.1333, 9.3; by their loss
    assert choose_survivors(loss, 9).tolist() == loss.argsort().tolist()


def test_survivors_of_equal_or_diverged_runs() -> None:
    nan = float("nan")
    assert choose_survivors(torch.tensor([2.0, 2.0, 2.0]), 2).tolist() == [0]
    assert choose_survivors(torch.tensor([nan, 3.0, float("inf"), 1.0]), 2).tolist() == [3, 1]
    with pytest.raises(ConfigError, match="learning rate"):
        choose_survivors(torch.tensor([nan, nan]), 1)
    for count in (0, 3):
        with pytest.raises(ConfigError, match=f"survivors={count} of 2 runs"):
            choose_survivors(torch.tensor([1.0, 2.0]), count)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 40), st.integers(0, 2**40))
def test_survivors_are_distinct_and_as_many_as_wanted(values: list[int], count: int, seed: int) -> None:
    count = min(count, len(values))
    chosen = choose_survivors(torch.tensor(values, dtype=torch.float64), count, seed).tolist()
    assert len(set(chosen)) == len(chosen) <= count
    assert len(chosen) == min(count, len(set(values)))


@pytest.fixture
def engine() -> Engine:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, 5, generator=generator), torch.arange(9) % 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(5, 2)
    x_eval = torch.randn(50, 5, generator=generator)
    return Engine(
        model, x, y, x_eval, torch.arange(50) % 2, optimizer=lambda p: torch.optim.SGD(p, 0.3, momentum=0.9)
    )


@pytest.mark.parametrize("redraw", [True, False])
def test_the_second_epoch_starts_from_the_survivors_of_the_first(engine: Engine, redraw: bool) -> None:
    trees = list(perfect_ordering(engine, batch_size=3, epochs=3, survivors=2, redraw=redraw, seed=5))
    assert [(tree.epoch, tree.start) for tree in trees] == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
    chosen = choose_survivors(trees[0].loss, 2, 0)
    first = batches_of(redraw, 1)
    ends = engine.replay(engine.start(), first, permutations(3)[chosen.sort().values])
    for number in range(2):
        row = int((chosen.sort().values == chosen[number]).nonzero())
        loss, accuracy = engine.train(ends.rows(row), batches_of(redraw, 2), permutations(3))
        torch.testing.assert_close(trees[1 + number].loss, loss, rtol=0, atol=1e-6)
        assert torch.equal(trees[1 + number].accuracy, accuracy)


def batches_of(redraw: bool, epoch: int) -> tuple[torch.Tensor, ...]:
    from lessonplan.order.perfect.search import SearchPlan

    plan = SearchPlan(9, 3, redraw, seed=5)
    first, second = plan.batches(1), plan.batches(2)
    same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert same is not redraw
    return plan.batches(epoch)


def test_bad_searches_are_refused(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="epochs=0"):
        list(perfect_ordering(engine, batch_size=3, epochs=0))
    with pytest.raises(ConfigError, match="survivors=12 of 6 runs"):
        list(perfect_ordering(engine, batch_size=3, epochs=2, survivors=12))
    with pytest.raises(ConfigError, match="one order"):
        list(perfect_ordering(engine, batch_size=9, epochs=1))
