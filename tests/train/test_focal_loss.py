"""Focal loss against its formula written out, torchvision's for two classes, and cross-entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lessonplan as lp
from lessonplan.errors import ConfigError
from lessonplan.losses import FocalLoss
from lessonplan.settings import Settings
from lessonplan.train.identity import identity_settings
from lessonplan.train.preparation import check_run

GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]


def by_hand(logits, target, gamma):
    """sum_c t_c * -(1 - p_c)^gamma * log(p_c), a number a sample."""
    losses = []
    for row, goal in zip(logits.tolist(), target.tolist(), strict=True):
        whole = sum(math.exp(z) for z in row)
        shares = [math.exp(z) / whole for z in row]
        losses.append(sum(-t * (1 - p) ** gamma * math.log(p) for t, p in zip(goal, shares, strict=True)))
    return losses


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0, 6), classes=st.integers(2, 6))
def test_equals_the_formula(seed, gamma, classes):
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(5, classes, generator=g, dtype=torch.float64)
    target = torch.rand(5, classes, generator=g).double()
    expected = by_hand(logits, target, gamma)
    assert FocalLoss(gamma, reduction="none")(logits, target).tolist() == pytest.approx(expected)
    assert FocalLoss(gamma)(logits, target).item() == pytest.approx(sum(expected) / 5)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_two_classes_are_the_papers_sigmoid(gamma):
    """torchvision's: binary cross-entropy times (1 - p_t)^gamma, p_t = p t + (1 - p)(1 - t); values and slopes."""
    z, label = torch.linspace(-6, 6, 13, dtype=torch.float64), torch.arange(13) % 2
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    logits = torch.stack([torch.zeros_like(ours), ours], 1)
    found = FocalLoss(gamma, reduction="none")(logits, label)
    p, t = theirs.sigmoid(), label.double()
    p_t = p * t + (1 - p) * (1 - t)
    expected = F.binary_cross_entropy_with_logits(theirs, t, reduction="none") * (1 - p_t) ** gamma
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gamma_0_is_cross_entropy():
    logits, target = torch.randn(6, 4), torch.rand(6, 4).softmax(1)
    loss = FocalLoss(0.0, reduction="none")
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target, reduction="none"))


def test_labels_are_targets_of_one_class_and_soft_ones_their_mean():
    logits, y = torch.randn(6, 4), torch.arange(6) % 4
    loss = FocalLoss(2.0, reduction="none")
    hot = F.one_hot(y, 4).float()
    torch.testing.assert_close(loss(logits, y), loss(logits, hot))
    other = hot.flip(0)
    torch.testing.assert_close(
        loss(logits, 0.25 * hot + 0.75 * other), 0.25 * loss(logits, hot) + 0.75 * loss(logits, other)
    )


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sure_networks_have_finite_losses_and_slopes(gamma, dtype):
    """Logits so far apart that p is 1 and 0 in floating point, right and wrong."""
    logits = torch.tensor([[300.0, -300.0], [300.0, -300.0], [1e-12, 0.0]], dtype=dtype, requires_grad=True)
    losses = FocalLoss(gamma, reduction="none")(logits, torch.tensor([0, 1, 0]))
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([0.0, 600.0, 0.5**gamma * math.log(2)])
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1].tolist() == pytest.approx([1.0, -1.0])


def _zeros():
    """A network whose logits are 0."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


@pytest.mark.parametrize(("given", "gamma"), [({}, 2.0), ({"focal_gamma": 1.0}, 1.0)])
@pytest.mark.parametrize("mix", [None, "mixup", "sum:k=2"])
def test_a_run_reports_it(quick, mix, given, gamma) -> None:
    """At weights of 0 each class has a third: (2 / 3)^gamma ln 3, whatever the target, which sums to 1."""
    run = quick(mix, "1 steps", model=_zeros(), loss="focal", **given)
    assert run.history[0]["train"]["loss"] == pytest.approx((2 / 3) ** gamma * np.log(3), rel=1e-6)


def test_weights_of_a_selection_count_in_mixed_targets_as_in_the_mean(quick) -> None:
    """The loss is linear in the target, so a sample's factor may stand in it."""
    logits, target, weight = torch.randn(6, 4), torch.rand(6, 4).softmax(1), torch.rand(6)
    loss = FocalLoss(1.5, reduction="none")
    torch.testing.assert_close(loss(logits, weight[:, None] * target), weight * loss(logits, target))
    assert quick("select:gradient-norm:0.5 + mixup", "4 steps", loss="focal").result["steps"] == 4


def test_mistakes_are_named_before_anything_is_written(quick, data, tmp_path) -> None:
    for options, message in (
        ({"focal_gamma": 1.0}, "focal_gamma=1 is for loss=focal"),
        ({"loss": "focal", "label_smoothing": 0.1}, "label_smoothing is for loss=ce"),
        ({"loss": "focal", "focal_gamma": -1.0}, "focal_gamma=-1"),
        ({"loss": "focal", "focal_gamma": math.inf}, "focal_gamma=inf"),
        ({"loss": "focus"}, "'focal'"),
    ):
        with pytest.raises(ConfigError, match=message):
            quick(None, "2 steps", out=tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="focal_gamma=1 is for loss=focal"):
        check_run(lp.Plan(), data, Settings(focal_gamma=1.0), 0)
    with pytest.raises(ConfigError, match=r"gamma=-1.*at least 0"):
        FocalLoss(-1)
    with pytest.raises(ConfigError, match=r"gamma=nan.*finite"):
        FocalLoss(math.nan)
    with pytest.raises(ConfigError, match=r"reduction='sum'.*'mean' or 'none'"):
        FocalLoss(reduction="sum")


def test_runs_from_before_are_the_same_runs() -> None:
    assert "focal_gamma" not in identity_settings(Settings())
    one, other = (identity_settings(Settings(loss="focal", focal_gamma=gamma)) for gamma in (1.0, 3.0))
    assert one != other
    assert one != identity_settings(Settings(loss="focal"))
