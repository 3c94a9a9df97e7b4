"""Losses, accuracies and calibration, by hand and beside numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lessonplan.errors import ConfigError
from lessonplan.evaluate.classification import (
    belief_summary,
    calibration_error,
    classification_metrics,
    detailed_metrics,
    loss_summary,
    parameter_norm,
    reliability,
)


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=200))
def test_loss_quantiles_are_numpys(losses: list[float]) -> None:
    summary = loss_summary(torch.tensor(losses))
    expected = np.array(losses, dtype=np.float32).astype(np.float64)
    for name, q in (("loss_q50", 0.5), ("loss_q90", 0.9), ("loss_q99", 0.99)):
        assert summary[name] == pytest.approx(np.quantile(expected, q), abs=1e-9)
    assert summary["loss"] == pytest.approx(expected.mean(), abs=1e-9)
    assert (summary["loss_best"], summary["loss_worst"]) == (expected.min(), expected.max())


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
    assert parameter_norm(torch.nn.ParameterList([torch.tensor([[2.0, 3.0]]), torch.tensor([6.0])])) == 7.0
    assert parameter_norm(torch.nn.ParameterList([torch.tensor([3 + 4j, 0]), torch.zeros(0)])) == 5.0
    half = torch.nn.ParameterList([torch.full((4,), 60000.0, dtype=torch.float16)])
    assert parameter_norm(half) == 2 * float(torch.tensor(60000.0, dtype=torch.float16))


def test_reliability_by_hand() -> None:
    """Of five bins: .9 and .9, half right, are in the last; .6 belongs to the bin that begins there."""
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [1.0, 0.0]], dtype=torch.float64)
    found = reliability(probabilities, torch.tensor([0, 1, 0, 0]), bins=5)
    assert found.count == [0, 0, 0, 1, 3]
    assert found.accuracy == [None, None, None, 1.0, pytest.approx(2 / 3)]
    assert found.confidence == [None, None, None, pytest.approx(0.6), pytest.approx(2.8 / 3)]


def test_beliefs_are_quantiles_of_confidence_and_margin():
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(57, 5, generator=generator)
    p = np.sort(torch.softmax(logits.double(), 1).numpy(), axis=1)
    found = belief_summary(logits)
    for q in (10, 50, 90):
        assert found[f"confidence_q{q}"] == pytest.approx(np.percentile(p[:, -1], q), abs=1e-5)
        assert found[f"margin_q{q}"] == pytest.approx(np.percentile(p[:, -1] - p[:, -2], q), abs=1e-5)
    assert found.items() <= classification_metrics(logits, torch.zeros(57, dtype=torch.long)).items()


@pytest.mark.parametrize("judge", [classification_metrics, detailed_metrics, calibration_error, reliability])
def test_soft_labels_are_refused_in_a_sentence(judge) -> None:
    probabilities = torch.full((4, 3), 1 / 3)
    with pytest.raises(ConfigError, match=r"\(4, 3\) .* needs the classes, integers \(N,\)"):
        judge(probabilities, torch.full((4, 3), 1 / 3))


INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_any_integers_are_judged_alike(dtype) -> None:
    """30 classes: of bytes, 30 * 29 would overflow."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 30, (300,), generator=g)
    logits = torch.randn(300, 30, generator=g)
    assert detailed_metrics(logits, labels.to(dtype)) == detailed_metrics(logits, labels)
    perfect = detailed_metrics(F.one_hot(labels, 30).float() * 9, labels.to(dtype))
    assert sum(row[i] for i, row in enumerate(perfect["confusion"])) == 300


@pytest.mark.parametrize("judge", [classification_metrics, detailed_metrics, calibration_error, reliability])
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 5], "from 0 to 5, but there are 3 outputs: give 0 to 2"),
        ([-1, 0], "from -1 to 0, but there are 3 outputs"),
        ([0, 1, 2], "3 labels came with 2 outputs"),
        ([], "no sample to judge"),
    ],
)
def test_labels_that_do_not_fit_are_told(judge, labels, said) -> None:
    outputs = torch.full((2, 3), 1 / 3)
    with pytest.raises(ConfigError, match=said):
        judge(outputs[: len(labels)] if not labels else outputs, torch.tensor(labels, dtype=torch.long))


def test_no_bin_is_told() -> None:
    with pytest.raises(ConfigError, match="bins=0: give at least 1"):
        calibration_error(torch.full((2, 3), 1 / 3), torch.tensor([0, 1]), bins=0)


def test_nothing_to_judge_is_said() -> None:
    for judge in (
        lambda: loss_summary(torch.zeros(0)),
        lambda: classification_metrics(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
    ):
        with pytest.raises(ConfigError, match="no sample to judge"):
            judge()
