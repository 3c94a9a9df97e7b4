"""Effect sizes against their formula, and how often chance is called a difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lessonplan.lab.data_check.differences import effect


def test_against_the_formula():
    rng = np.random.default_rng(0)
    a, b = rng.normal(100, 10, 40), rng.normal(108, 14, 25)
    pooled = math.sqrt((39 * a.var(ddof=1) + 24 * b.var(ddof=1)) / 63)
    d = (b.mean() - a.mean()) / pooled
    error = math.sqrt(65 / 1000 + d**2 / 130)
    found = effect(torch.tensor(a), torch.tensor(b))
    assert found.d == pytest.approx(d)
    assert (found.low, found.high) == pytest.approx((d - 1.95996 * error, d + 1.95996 * error), abs=1e-4)


def test_parts_that_do_not_differ_are_seldom_called_different():
    rng = np.random.default_rng(1)
    words = [effect(*(torch.tensor(rng.normal(size=n)) for n in (200, 60))).word for _ in range(400)]
    assert words.count("none") >= 0.93 * 400


@pytest.mark.parametrize(("d", "word"), [(0.1, "none"), (0.3, "small"), (0.65, "medium"), (1.0, "large")])
def test_words_follow_cohen(d, word):
    x = torch.linspace(-1, 1, 2001).double()
    assert effect(x, x + d * x.std()).word == word


def test_values_without_spread():
    one, other = torch.full((5,), 64.0), torch.full((4,), 32.0)
    assert effect(one, other).d == -math.inf
    assert effect(one, other).word == "large"
    assert effect(one, one[:3]).word == "none"
    assert effect(one, other[:1]) is None
