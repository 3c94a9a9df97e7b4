"""SumBCE against binary cross-entropy written out with ``math.log``."""

from __future__ import annotations

import math

import pytest
import torch

import lessonplan as lp
from lessonplan import mix as m
from lessonplan.errors import ConfigError
from lessonplan.integrations.timm import Mixup
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


def _clean(mix):
    return m.Probability(mix, p=0.0)


def _later(mix):
    return m.Until(mix, end=1.0, start=0.5)


@pytest.mark.parametrize(
    ("mix", "samples", "k"),
    [
        (lambda: m.SumAugment(4, num_classes=4), 8, 4),
        (lambda: m.SumAugment(4, num_classes=4), 2, 2),  # an epoch's last, small batch
        (lambda: m.SumAugment(4, num_classes=4), 1, 1),
        (lambda: m.GradualCascade(4, num_classes=4), 3, 3),
        (lambda: m.ManifoldMixup(num_classes=4, layers=["input"], k=3), 2, 2),
        (lambda: _clean(m.SumAugment(4, num_classes=4)), 8, 1),
        (lambda: _later(m.SumAugment(4, num_classes=4)), 8, 1),
        (lambda: m.Choice([m.SumAugment(4), m.SumAugment(2)], p=[0.0, 1.0], num_classes=4), 8, 2),
        (lambda: m.Choice([m.Mixup(), _clean(m.Mixup())], p=[0.0, 1.0], num_classes=4), 8, 1),
        (lambda: m.SumAugment(2, num_classes=4) >> m.SumAugment(3, num_classes=4), 8, 6),
        (lambda: m.SumAugment(2, num_classes=4) >> _clean(m.SumAugment(3, num_classes=4)), 8, 2),
        (lambda: Mixup(num_classes=4), 8, 2),
        (lambda: Mixup(num_classes=4, prob=0.0), 8, 1),
    ],
)
@pytest.mark.filterwarnings("ignore::lessonplan.errors.LessonplanWarning")
def test_divides_by_the_k_of_the_batch_that_was_mixed_last(mix, samples, k):
    mix = mix()
    loss, before = SumBCE(mix, reduction="none"), mix.mixed_k()
    assert before == mix.current_k()
    _, target = mix(torch.rand(samples, 4, generator=torch.Generator().manual_seed(0)), torch.arange(samples) % 4)
    logits = torch.randn(len(target), 4, generator=torch.Generator().manual_seed(1))
    assert loss(logits, target).tolist() == pytest.approx(by_hand(logits, target, k), rel=1e-4)
    mix.done_with_batch()
    assert mix.mixed_k() == before
    if samples == 8:  # as before training: a rehearsal is no batch
        mix.rehearse(torch.rand(8, 4), torch.arange(8) % 4)
        assert mix.mixed_k() == before


def test_fit_divides_batches_that_are_left_as_they_are_by_one():
    """Never mixed, a run has the weights of one without a mix."""
    data = lp.data.load("digits", per_class=6, val_fraction=0)
    runs = [
        lp.fit("fcnet-8", data, plan, "4 steps", loss="sum-bce", schedule="constant", threads=1)
        for plan in ("none", "sum:k=4,p=0.0", "sum:k=4")
    ]
    plain, never, mixed = (torch.cat([p.flatten() for p in run.model.parameters()]) for run in runs)
    assert torch.equal(plain, never)
    assert not torch.equal(plain, mixed)


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
