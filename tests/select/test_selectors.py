"""Selectors: distributions, unbiased estimates, and the edges of their options."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.errors import ConfigError, DataError
from lessonplan.select import functional as F
from lessonplan.select.selectors import LossWeighted, QSplit, RandomSubset, TopK, TopQuantile, Uniform

LOSSES = torch.tensor([0.05, 2.0, 0.4, 1.1, 0.7, 3.0])
VALUES = torch.tensor([3.0, -1.0, 4.0, 1.0, -5.0, 9.0], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def within(estimates: torch.Tensor, expected: float, errors: float = 4.5) -> bool:
    """Whether the mean of independent estimates is as close as chance allows."""
    return bool((estimates.mean() - expected).abs() < errors * estimates.std() / math.sqrt(len(estimates)))


# -- probabilities of drawing ------------------------------------------------------------------------


def test_draws_with_replacement_follow_the_weights():
    n = 200_000
    drawn = LossWeighted(power=2.0)(LOSSES, n, generator())[0]
    seen = torch.bincount(drawn, minlength=6) / n
    p = LOSSES.double() ** 2 / (LOSSES.double() ** 2).sum()
    assert ((seen - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()


def test_draws_without_replacement_are_draws_among_what_is_left():
    """Each pair's probability by hand: first i, then j of the rest, or the other way round."""
    weights, n = [1.0, 2.0, 5.0, 0.5], 4000
    part, losses, g = LossWeighted(replacement=False), torch.tensor(weights), generator()
    seen = dict.fromkeys(itertools.combinations(range(4), 2), 0)
    for _ in range(n):
        seen[tuple(part(losses, 2, g)[0].tolist())] += 1
    total = sum(weights)
    for (i, j), count in seen.items():
        a, b = weights[i], weights[j]
        p = a / total * b / (total - a) + b / total * a / (total - b)
        assert abs(count / n - p) < 4.5 * math.sqrt(p * (1 - p) / n)


def test_the_inverse_prefers_low_losses():
    n = 100_000
    drawn = LossWeighted(inverse=True)(LOSSES, n, generator())[0]
    p = (1 / LOSSES.double()) / (1 / LOSSES.double()).sum()
    seen = torch.bincount(drawn, minlength=6) / n
    assert ((seen - p).abs() < 4.5 * (p * (1 - p) / n).sqrt()).all()


def test_powers_of_any_size_draw():
    for power in (1e-3, 50.0, 1000.0):
        for inverse in (False, True):
            for replacement in (False, True):
                part = LossWeighted(power=power, inverse=inverse, replacement=replacement, importance=True)
                positions, weights = part(torch.tensor([0.0, 1e-9, 5.0, 80.0]), 3, generator())
                assert len(positions) == 3
                if power < 1:
                    assert torch.isfinite(weights).all()
    best = LossWeighted(power=1000.0, replacement=False)(LOSSES, 2, generator())[0]
    assert best.tolist() == [1, 5]


def test_losses_of_zero_are_drawn_alike():
    drawn = LossWeighted()(torch.zeros(4), 40_000, generator())[0]
    assert (torch.bincount(drawn, minlength=4) / 40_000 - 0.25).abs().max() < 0.01


# -- unbiased estimates ------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_weights_with_replacement_are_unbiased(power):
    part = LossWeighted(power=power, importance=True)
    positions, weights = part(LOSSES, 100_000, generator())
    mean = float(VALUES.mean())
    assert within(weights.double() * VALUES[positions], mean)
    assert not within(VALUES[positions], mean)
    p = LOSSES.double() ** power / (LOSSES.double() ** power).sum()
    torch.testing.assert_close(weights, (1 / (6 * p))[positions].float())


@pytest.mark.parametrize("size", [1, 3, 5])
def test_weights_without_replacement_are_unbiased(size):
    part, g = LossWeighted(replacement=False, importance=True), generator()
    plain, weighted = [], []
    for _ in range(2000):
        positions, weights = part(LOSSES, size, g)
        plain.append(VALUES[positions].mean())
        weighted.append((weights.double() * VALUES[positions]).mean())
    assert within(torch.stack(weighted), float(VALUES.mean()))
    assert not within(torch.stack(plain), float(VALUES.mean()))


def test_taking_all_without_replacement_weighs_nothing():
    positions, weights = LossWeighted(replacement=False, importance=True)(LOSSES, 6, generator())
    assert positions.tolist() == list(range(6))
    assert weights.tolist() == [1.0] * 6


# -- q-split -----------------------------------------------------------------------------------------


def bucket_of_each(losses: torch.Tensor, q: int, power: float) -> torch.Tensor:
    """The bucket of every sample; each is in one."""
    buckets = F.equal_mass_buckets(losses, q, power)
    assert len(buckets) == q
    assert torch.cat(buckets).sort().values.tolist() == list(range(len(losses)))
    labels = torch.empty(len(losses), dtype=torch.int64)
    for number, positions in enumerate(buckets):
        labels[positions] = number
    return labels


def test_one_loss_that_spans_several_buckets():
    """Sum 16, buckets of 4: the printed algorithm would put 9 into the first, at the wrong position."""
    losses = torch.tensor([1.0, 9.0, 1.0, 1.0, 4.0])
    assert bucket_of_each(losses, 4, 1.0).tolist() == [0, 1, 0, 0, 0]
    assert bucket_of_each(torch.tensor([9.0, 9.0, 1.0, 1.0]), 4, 1.0).tolist() == [0, 2, 0, 0]


def test_a_bucket_that_is_exactly_full_is_closed():
    assert bucket_of_each(torch.ones(6), 3, 2.0).tolist() == [0, 0, 1, 1, 2, 2]


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=40), st.integers(2, 6), st.floats(0.5, 4))
def test_buckets_rise_with_the_losses_and_hold_equal_mass(losses, q, power):
    values = torch.tensor(losses, dtype=torch.float64)
    buckets = bucket_of_each(values, q, power)
    order = values.argsort(stable=True)
    assert (buckets[order].diff() >= 0).all()
    assert 0 <= buckets.min() <= buckets.max() < q
    mass = values**power
    for b in range(q):
        inside = mass[buckets == b]
        if len(inside):
            # Without its largest loss a bucket is below its share: the largest is where the share is reached.
            assert inside.sum() - inside.max() <= mass.sum() / q * (1 + 1e-9)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.data())
def test_shares_are_equal_where_they_can_be(held, data):
    size = data.draw(st.integers(0, sum(held)))
    shares = F.bucket_shares(held, size)
    assert sum(shares) == size
    assert all(0 <= s <= h for s, h in zip(shares, held, strict=True))
    even = size // len(held)
    assert all(s >= min(h, even) for s, h in zip(shares, held, strict=True))
    if all(h > even for h in held):
        assert max(shares) - min(shares) <= 1


def test_neighbours_top_up():
    assert F.bucket_shares([10, 10, 1, 10], 8) == [2, 2, 1, 3]
    assert F.bucket_shares([10, 10, 1, 2], 8) == [2, 3, 1, 2]
    assert F.bucket_shares([9, 0, 0, 0], 8) == [8, 0, 0, 0]
    assert F.bucket_shares([9, 9, 9], 8) == [2, 3, 3]
    # Buckets 1 and 4 lack one each, and both are nearest to the one that bucket 2 can spare: 4 is served first.
    assert F.bucket_shares([10, 1, 3, 2, 1, 2, 2, 10], 16) == [3, 1, 3, 2, 1, 2, 2, 2]


def test_every_sample_of_a_bucket_is_drawn_alike():
    part, g, seen = QSplit(q=2, power=1.0), generator(), torch.zeros(6)
    for _ in range(2000):
        seen[part(LOSSES, 2, g)[0]] += 1
    # Sorted: .05 .4 .7 1.1 2 | 3, half of 7.25 is reached by 2.
    assert seen[5] == 2000
    assert ((seen[:5] / 2000 - 0.2).abs() < 4.5 * math.sqrt(0.2 * 0.8 / 2000)).all()


# -- top and quantile --------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_top_k_leaves_nothing_larger_behind(losses, data):
    values = torch.tensor(losses).float()
    size = data.draw(st.integers(1, len(losses)))
    kept = TopK(size)(values, size, generator())[0]
    rest = torch.ones(len(losses), dtype=torch.bool)
    rest[kept] = False
    assert len(kept) == size
    assert (kept.diff() > 0).all()
    if rest.any():
        assert values[kept].min() >= values[rest].max()


@given(st.lists(st.floats(0, 5, width=32), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_a_quantile_keeps_its_share_and_never_nothing(losses, q):
    values = torch.tensor(losses)
    kept = TopQuantile(q)(values, len(losses), generator())[0]
    assert int(values.argmax()) in kept.tolist()
    assert len(kept) >= len(losses) - math.ceil(q * (len(losses) - 1) + 1e-9)
    if len(set(losses)) == len(losses):
        assert len(kept) <= len(losses) - math.floor(q * (len(losses) - 1) - 1e-6)


def test_equal_losses():
    assert TopK(2)(torch.ones(5), 2, generator())[0].tolist() == [0, 1]
    assert TopQuantile(0.9)(torch.ones(5), 5, generator())[0].tolist() == [0, 1, 2, 3, 4]


# -- controls and schedules --------------------------------------------------------------------------


def test_controls_draw_uniformly():
    for part in (RandomSubset(2), Uniform(2), Uniform(2, replacement=False)):
        g, seen = generator(), torch.zeros(5)
        for _ in range(2000):
            positions, weights = part(torch.zeros(5), 2, g)
            seen += torch.bincount(positions, minlength=5)
        assert weights is None
        assert ((seen / 4000 - 0.2).abs() < 0.025).all()
    assert any(len(set(Uniform(4)(torch.zeros(5), 4, g)[0].tolist())) < 4 for _ in range(20))


def test_a_power_changes_over_the_run():
    part = LossWeighted(power="2->0.5", importance=True)
    for progress, power in ((0.0, 2.0), (0.5, 1.25), (1.0, 0.5)):
        part.advance(progress)
        positions, weights = part(LOSSES, 20, generator())
        p = LOSSES.double() ** power / (LOSSES.double() ** power).sum()
        torch.testing.assert_close(weights, (1 / (6 * p))[positions].float())


@pytest.mark.parametrize(
    "power", [0, -1.0, "2->0", "2->-1", "x", "2->", "->2", "nan", "1->2->3", "1..2", math.inf]
)
def test_powers_that_are_none(power):
    for make in (LossWeighted, QSplit):
        with pytest.raises(ConfigError, match="give a number above 0"):
            make(power=power)


@pytest.mark.parametrize("make", [TopK, LossWeighted, QSplit, RandomSubset, Uniform])
@pytest.mark.parametrize("size", [0, -3, 0.0, 1.5, True, math.nan])
def test_sizes_that_are_none(make, size):
    with pytest.raises(ConfigError, match="number of samples"):
        make(size)


def test_other_bad_options():
    for q in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ConfigError, match=r"give a number in \(0, 1\)"):
            TopQuantile(q)
    with pytest.raises(ConfigError, match="at least 2 parts"):
        QSplit(q=1)
    for part in (LossWeighted(), QSplit()):
        with pytest.raises(DataError, match=r"got a loss of -0\.5"):
            part(torch.tensor([1.0, -0.5]), 1, generator())


@given(st.lists(st.integers(0, 4), max_size=20))
def test_rounds_split_repeats_in_order(indices):
    values = torch.tensor(indices, dtype=torch.int64)
    parts = list(F.rounds(values))
    assert sorted(row for part in parts for row in part.tolist()) == list(range(len(indices)))
    assert all(len(values[part].unique()) == len(part) for part in parts)
    for index in set(indices):
        rows = [row for part in parts for row in part.tolist() if indices[row] == index]
        assert rows == sorted(rows)
