"""Filters: what their edges mean."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.errors import ConfigError, DataError
from lessonplan.select.base import Scored
from lessonplan.select.filters import AccuracyFilter, MarginFilter
from lessonplan.select.functional import shrinking_margin, top_gap

# Exact in binary, so that a difference can lie exactly on the margin.
HALVES = torch.tensor([[0.75, 0.25], [0.625, 0.375], [0.5, 0.5], [0.25, 0.75]]).log()
FIRST = torch.zeros(4, dtype=torch.int64)


def test_hard_soft_and_labels():
    assert AccuracyFilter()(HALVES, FIRST).tolist() == [False, False, HALVES[2].argmax() != 0, True]
    assert AccuracyFilter(0.3)(HALVES, FIRST).tolist() == [False, True, True, True]
    assert AccuracyFilter(0.3)(HALVES, FIRST + 1).tolist() == [True, True, True, False]


def test_the_soft_margin_keeps_its_edge_and_the_margin_filter_does_not():
    logits = torch.tensor([[0.0, 0.0]])
    assert top_gap(logits).item() == 0.0
    certain = torch.tensor([[1000.0, 0.0]])  # a gap of exactly 1
    assert AccuracyFilter(1.0)(certain, FIRST[:1]).item()
    assert not MarginFilter(2, 1.0)(certain, FIRST[:1]).item()


def test_margin_filter_does_not_look_at_labels():
    part = MarginFilter(2, 0.3)
    assert part(HALVES, FIRST).tolist() == part(HALVES, FIRST + 1).tolist() == [False, True, True, False]


@pytest.mark.parametrize(("order", "halfway"), [(1.0, 0.6), (2.0, 0.8), (0.5, 1 - 0.8 * math.sqrt(0.5))])
def test_the_margin_shrinks_as_specified(order, halfway):
    part = MarginFilter(2, 0.2, order)
    margins = []
    for progress in (0.0, 0.5, 1.0):
        part.advance(progress)
        margins.append(part.current_margin())
    assert margins == pytest.approx([1.0, halfway, 0.2])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1), st.floats(0.1, 5))
def test_the_margin_never_grows(early, late, margin, order):
    early, late = sorted((early, late))
    assert 1 >= shrinking_margin(early, margin, order) >= shrinking_margin(late, margin, order) >= margin - 1e-12


def test_a_constant_margin_stays():
    part = MarginFilter(2, 0.2)
    part.advance(0.0)
    assert part.current_margin() == 0.2


@given(st.integers(2, 6), st.integers(0, 1000))
def test_a_larger_margin_keeps_more(rank, seed):
    logits = torch.randn(40, 6, generator=torch.Generator().manual_seed(seed))
    labels = torch.zeros(40, dtype=torch.int64)
    small, large = (MarginFilter(rank, m)(logits, labels) for m in (0.1, 0.4))
    assert not (small & ~large).any()
    hard, soft = AccuracyFilter()(logits, labels), AccuracyFilter(0.1)(logits, labels)
    assert not (hard & ~soft).any()
    assert soft.tolist() == (hard | (top_gap(logits) <= 0.1)).tolist()


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.1, math.nan, math.inf])
def test_margins_out_of_range(margin):
    for name, make in (("accuracy", lambda: AccuracyFilter(margin)), ("margin", lambda: MarginFilter(2, margin))):
        with pytest.raises(ConfigError, match=rf"^{name}: margin {margin} .*give a number in \(0, 1\]"):
            make()


def test_other_bad_options():
    with pytest.raises(ConfigError, match="rank 1"):
        MarginFilter(1)
    with pytest.raises(ConfigError, match="decay 0"):
        MarginFilter(2, 0.2, 0.0)
    with pytest.raises(ConfigError, match="rank 6 of 5 classes: give 2 to 5"):
        MarginFilter(6).make_room(10, 5)
    with pytest.raises(ConfigError, match="rank 6 of 5 classes"):
        MarginFilter(6).setup(10, 5)  # as it was called before
    with pytest.raises(ConfigError, match="rank 3 of 2 classes"):
        MarginFilter(3)(HALVES, FIRST)


def test_bad_inputs():
    with pytest.raises(DataError, match=r"\(4, 2\) and \(3,\)"):
        AccuracyFilter()(HALVES, FIRST[:3])
    for cls in (AccuracyFilter, MarginFilter):
        with pytest.raises(DataError, match="labels of type ndarray: give a tensor"):
            cls()(HALVES, FIRST.numpy())
        with pytest.raises(DataError, match="logits of type list: give a tensor"):
            cls()(HALVES.tolist(), FIRST)
    with pytest.raises(DataError, match="NaN or infinite"):
        AccuracyFilter()(torch.tensor([[torch.inf, 0.0]]), FIRST[:1])


def test_the_mask_of_scored_candidates_is_the_same():
    scored = Scored(torch.arange(4), FIRST, HALVES, torch.zeros(4))
    assert torch.equal(AccuracyFilter(0.3).mask(scored, torch.Generator()), AccuracyFilter(0.3)(HALVES, FIRST))
