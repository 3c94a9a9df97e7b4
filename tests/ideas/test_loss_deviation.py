"""The regulariser against hand-worked numbers, its closed-form gradient, and finite differences."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan.errors import ConfigError
from lessonplan.ideas import LossDeviation, loss_deviation

LOSSES = st.lists(st.floats(0, 50), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(LOSSES)
def test_deviation_is_the_population_deviation(losses):
    found = loss_deviation(torch.tensor(losses, dtype=torch.float64)).item()
    assert found == pytest.approx(statistics.pstdev(losses), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(LOSSES, st.floats(0, 10), st.floats(-5, 5))
def test_deviation_ignores_shifts_and_follows_scales(losses, scale, shift):
    x = torch.tensor(losses, dtype=torch.float64)
    torch.testing.assert_close(loss_deviation(scale * x + shift), scale * loss_deviation(x), atol=1e-9, rtol=1e-9)


def test_a_batch_by_hand():
    """Cross-entropies ln 2 and ln 4: mean 1.5 ln 2, deviation 0.5 ln 2."""
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    labels = torch.tensor([0, 1])
    loss = LossDeviation(weight=0.5)(logits, labels)
    assert loss.item() == pytest.approx(1.75 * math.log(2), abs=1e-6)
    assert LossDeviation(weight=0.5)(logits, torch.eye(2)[labels]).item() == pytest.approx(loss.item(), abs=1e-6)


def test_gradient_is_one_plus_weight_times_standard_score():
    losses = torch.tensor([0.1, 0.5, 2.0, 0.4], dtype=torch.float64, requires_grad=True)
    LossDeviation(0.3, loss=lambda output, target: output)(losses, losses).backward()
    values = losses.detach()
    score = (values - values.mean()) / values.std(correction=0)
    torch.testing.assert_close(losses.grad, (1 + 0.3 * score) / 4)
    assert (losses.grad > 0).all()


def test_gradient_through_a_network_by_finite_differences():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=g, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0, 1])
    assert torch.autograd.gradcheck(lambda z: LossDeviation(0.7)(z, labels), (logits,))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 50), min_size=2, max_size=12), st.data())
def test_no_sample_is_unlearned_up_to_the_stated_weight(losses, data):
    n = len(losses)
    weight = data.draw(st.floats(0.01, 1.0)) / math.sqrt(n - 1)
    x = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    LossDeviation(weight, loss=lambda output, target: output)(x, x).backward()
    assert x.grad.min() >= -1e-7


def test_beyond_that_weight_one_low_loss_is_unlearned():
    """One low loss among n has the standard score -sqrt(n - 1)."""
    x = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0], requires_grad=True)
    LossDeviation(0.51, loss=lambda output, target: output)(x, x).backward()
    assert x.grad[0] < 0


@pytest.mark.parametrize("losses", [[2.0], [0.7, 0.7, 0.7], [0.0, 0.0]])
def test_equal_losses_leave_the_mean_and_a_finite_gradient(losses):
    x = torch.tensor(losses, requires_grad=True)
    loss = LossDeviation(5.0, loss=lambda output, target: output)(x, x)
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(losses).mean())
    torch.testing.assert_close(x.grad, torch.full((len(losses),), 1 / len(losses)))


def test_training_with_it_brings_losses_together():
    """Two samples that one weight cannot both fit: the mean favours the majority less under the regulariser."""

    def gap(criterion):
        w = torch.tensor(0.0, requires_grad=True)
        y = torch.tensor([1.0, 1.0, 1.0, 0.0])
        optimizer = torch.optim.SGD([w], lr=0.05)
        for _ in range(500):
            optimizer.zero_grad()
            criterion(w.expand(4), y).backward()
            optimizer.step()
        losses = (w.detach() - y) ** 2
        return (losses.max() - losses.min()).item()

    assert gap(F.mse_loss) == pytest.approx(0.5, abs=1e-3)  # w = 3/4: 9/16 - 1/16
    squares = LossDeviation(0.4, loss=lambda output, target: (output - target) ** 2)
    assert gap(squares) < 0.4


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_weights_that_are_refused(weight):
    with pytest.raises(ConfigError, match="above 0"):
        LossDeviation(weight)


def test_a_loss_that_is_reduced_already_is_refused():
    criterion = LossDeviation(0.1, loss=F.cross_entropy)
    with pytest.raises(ConfigError, match="reduction='none'"):
        criterion(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
    with pytest.raises(ConfigError, match="one loss a sample"):
        loss_deviation(torch.zeros(0))
