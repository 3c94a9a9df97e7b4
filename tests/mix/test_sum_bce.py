"""SumBCE against binary cross-entropy written out with ``math.log``."""

from __future__ import annotations

import math

import pytest
import torch

from lessonplan import mix as m
from lessonplan.errors import ConfigError
from lessonplan.losses import SumBCE


def by_hand(logits, target, k):
    """sum_c -(t log p + (1 - t) log(1 - p)) / k for each sample."""
    losses = []
    for row, goal in zip(logits.tolist(), target.tolist(), strict=True):
        total = 0.0
        for z, t in zip(row, goal, strict=True):
            p = 1 / (1 + math.exp(-z))
            total -= t * math.log(p) + (1 - t) * math.log(1 - p)
        losses.append(total / k)
    return losses


@pytest.mark.parametrize("k", [1, 2, 5])
def test_equals_the_formula(k):
    g = torch.Generator().manual_seed(k)
    logits, target = torch.randn(6, 4, generator=g, dtype=torch.float64), torch.rand(6, 4, generator=g).double()
    expected = by_hand(logits, target, k)
    assert SumBCE(k, reduction="none")(logits, target).tolist() == pytest.approx(expected)
    assert SumBCE(k)(logits, target).item() == pytest.approx(sum(expected) / 6)


def test_follows_the_k_of_a_mix():
    logits, target = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), torch.full((3, 4), 0.25)
    mix = m.Cascade(8, num_classes=4, patience=1, shares=None)
    loss = SumBCE(mix)
    for k in (8, 4, 2, 1):
        assert loss(logits, target).item() == pytest.approx(sum(by_hand(logits, target, k)) / 3, rel=1e-5)
        mix.step(0.5)
        mix.step(0.5)


def test_extreme_logits_stay_finite_with_gradients():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = SumBCE(2)(logits, torch.tensor([[0.0, 1.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(200.0)
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0.5, -0.5]]


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match=r"k=0.*at least 1"):
        SumBCE(0)
    with pytest.raises(ConfigError, match=r"reduction='sum'.*'mean' or 'none'"):
        SumBCE(1, reduction="sum")
