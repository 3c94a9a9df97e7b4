from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.train.metrics import (
    LossMeter,
    calibration_error,
    classification_metrics,
    detailed_metrics,
    loss_summary,
    parameter_norm,
    predict_view,
)


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=200))
def test_loss_quantiles_are_numpys(losses: list[float]) -> None:
    summary = loss_summary(torch.tensor(losses))
    expected = np.array(losses, dtype=np.float32).astype(np.float64)
    for name, q in (("loss_q50", 0.5), ("loss_q90", 0.9), ("loss_q99", 0.99)):
        assert summary[name] == pytest.approx(np.quantile(expected, q), abs=1e-9)
    assert summary["loss"] == pytest.approx(expected.mean(), abs=1e-9)
    assert (summary["loss_best"], summary["loss_worst"]) == (expected.min(), expected.max())


def test_soft_target_accuracy_is_the_mass_on_the_predicted_class() -> None:
    meter = LossMeter()
    target = torch.tensor([[0.7, 0.3, 0.0], [0.25, 0.25, 0.5]])
    meter.add(torch.tensor([1.0, 3.0]), torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 9.0]]), target)
    meter.add(torch.tensor([2.0]), torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]]))
    metrics = meter.compute()
    assert metrics["accuracy"] == pytest.approx((0.3 + 0.5 + 1.0) / 3)
    assert metrics["loss"] == 2.0


def test_meter_state_goes_round_and_compute_empties() -> None:
    one, other = LossMeter(), LossMeter()
    assert one.all_finite()
    one.add(torch.tensor([1.0, 2.0]), torch.eye(2), torch.eye(2))
    other.load_state_dict(one.state_dict(), torch.device("cpu"))
    for meter in (one, other):
        meter.add(torch.tensor([6.0]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert one.compute() == other.compute()
    one.add(torch.tensor([7.0]), torch.eye(2)[:1], torch.eye(2)[:1])
    assert one.compute()["loss"] == 7.0
    one.add(torch.tensor([math.inf]), torch.eye(2)[:1], torch.eye(2)[:1])
    assert not one.all_finite()


def test_calibration_error_by_hand() -> None:
    """In one bin .9 and .9 sure, half right; in another .6 and .6, all right: (.4 x 2 + .4 x 2) / 4."""
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]], dtype=torch.float64)
    assert calibration_error(probabilities, torch.tensor([0, 1, 0, 0]), bins=5) == pytest.approx(0.4)
    # In one bin the gaps cancel: 3 of 4 right at a mean confidence of .75.
    assert calibration_error(probabilities, torch.tensor([0, 1, 0, 0]), bins=1) == pytest.approx(0.0)
    assert calibration_error(torch.eye(2), torch.tensor([0, 1])) == 0.0


def test_classification_metrics_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    metrics = detailed_metrics(logits, labels)
    losses = [math.log1p(math.exp(-2)), math.log1p(math.exp(1)), math.log1p(math.exp(3))]
    assert metrics["loss"] == pytest.approx(sum(losses) / 3)
    assert metrics["loss_worst"] == pytest.approx(losses[2])
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["confusion"] == [[1, 1], [1, 0]]
    assert metrics["per_class_accuracy"] == [0.5, 0.0]
    assert metrics["top5"] == 1.0
    assert detailed_metrics(logits, torch.zeros(3, dtype=torch.long))["per_class_accuracy"] == [2 / 3, None]


def test_top5_of_many_classes() -> None:
    logits = torch.arange(10.0).repeat(10, 1)
    assert classification_metrics(logits, torch.arange(10))["top5"] == 0.5


def test_parameter_norm_by_hand() -> None:
    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 3.0]]))
        layer.bias.fill_(6.0)
    assert parameter_norm(layer) == 7.0


def test_predict_view_is_whole_in_order_and_keeps_the_mode(data) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 3)).train()
    logits, labels = predict_view(model, data.test, batch_size=7)
    assert model.training
    x, y = data.test.fetch(torch.arange(30))
    assert torch.allclose(logits, model.eval()(x), atol=1e-6)
    assert torch.equal(labels, y)


def test_a_runs_metrics_are_those_of_its_losses(quick, hook) -> None:
    """Training metrics of an epoch, beside losses gathered by a callback's own arithmetic."""
    seen: list[torch.Tensor] = []

    def loss(logits, target):
        losses = F.cross_entropy(logits, target, reduction="none")
        seen.append(losses.detach().clone())
        return losses

    run = quick("sum:k=2", "6 steps", loss=loss)
    losses = torch.cat(seen).double().numpy()
    assert len(run.history) == 1
    assert len(losses) == 24
    assert run.history[0]["train"]["loss"] == pytest.approx(losses.mean())
    assert run.history[0]["train"]["loss_q90"] == pytest.approx(np.quantile(losses, 0.9))
    assert run.history[0]["param_norm"] == run.result["param_norm"] == parameter_norm(run.model)
    assert run.history[0]["system"]["memory_mb"] > 1
    assert run.history[0]["system"]["samples_per_second"] == pytest.approx(24 / run.result["seconds"])
