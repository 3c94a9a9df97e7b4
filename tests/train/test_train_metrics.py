from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lessonplan.evaluate.classification import parameter_norm
from lessonplan.train.metrics import LossMeter, predict_view


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
