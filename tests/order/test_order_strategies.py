"""From scores to positions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.errors import ConfigError
from lessonplan.order.strategies import ORDERINGS, SAMPLINGS, draw_weights, pick

SCORES = st.lists(st.floats(-5, 5), min_size=1, max_size=12)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@given(SCORES, st.booleans(), st.integers(1, 12))
def test_orders_are_those_of_sorted(scores, down, count):
    got = pick(
        torch.tensor(scores, dtype=torch.float64), ("descending" if down else "ascending"), count, generator()
    )
    expected = sorted(range(len(scores)), key=lambda i: -scores[i] if down else scores[i])
    assert got.tolist() == expected[:count]


def test_nan_comes_last_in_either_order():
    scores = torch.tensor([1.0, float("nan"), 3.0])
    assert pick(scores, "ascending", 3, generator()).tolist() == [0, 2, 1]
    assert pick(scores, "descending", 3, generator()).tolist() == [2, 0, 1]


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=8), st.floats(0.2, 5))
def test_weights_are_powers_of_scores(scores, temperature):
    values = torch.tensor(scores, dtype=torch.float64)
    for strategy, sign in (("weighted", 1), ("inverse", -1)):
        raised = [s ** (sign / temperature) for s in scores]
        expected = torch.tensor(raised, dtype=torch.float64) / sum(raised)
        torch.testing.assert_close(draw_weights(values, strategy, temperature), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("strategy", ["weighted", "inverse", "uniform"])
def test_draws_follow_the_weights_and_repeat(strategy):
    scores, n = torch.tensor([1.0, 2.0, 5.0]), 20_000
    drawn = pick(scores, strategy, n, generator())
    found = torch.bincount(drawn, minlength=3) / n
    expected = {"weighted": scores, "inverse": 1 / scores, "uniform": torch.ones(3)}[strategy]
    torch.testing.assert_close(found, expected / expected.sum(), atol=0.015, rtol=0)


def test_extremes_of_the_scores_are_no_trouble():
    assert draw_weights(torch.tensor([0.0, 0.0]), "weighted", 1.0).tolist() == [0.5, 0.5]
    assert draw_weights(torch.tensor([0.0, 1.0]), "weighted", 1.0)[0] < 1e-300
    assert draw_weights(torch.tensor([0.0, 1.0]), "inverse", 1.0)[0] > 1 - 1e-9
    assert draw_weights(torch.tensor([1.0, float("nan")]), "weighted", 1.0).tolist() == [1.0, 0.0]
    assert draw_weights(torch.tensor([1e-30, 2e-30]), "weighted", 0.01).tolist() == pytest.approx([0.0, 1.0])


def test_draws_come_from_the_generator_alone():
    state = torch.get_rng_state()
    a = pick(torch.rand(9, generator=generator()), "weighted", 5, generator())
    b = pick(torch.rand(9, generator=generator()), "weighted", 5, generator())
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)


def test_negative_scores_cannot_be_weights():
    with pytest.raises(ConfigError, match=r"order='inverse' draws in proportion to scores, but one is -1"):
        pick(torch.tensor([2.0, -1.0]), "inverse", 1, generator())


def test_every_strategy_orders_or_samples():
    assert set(ORDERINGS).isdisjoint(SAMPLINGS)
    assert len(ORDERINGS) + len(SAMPLINGS) == 7
