"""Detection figures against counts made by hand, ties included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lessonplan import evaluate as ev
from lessonplan.errors import DataError

SCORES = st.lists(st.integers(0, 12), min_size=1, max_size=50)


def by_counting(inside: Tensor, outside: Tensor) -> tuple[float, float, float]:
    """Accept scores of at least a threshold; try every score as the threshold, and none of them."""
    n, m = len(inside), len(outside)
    points = []
    for threshold in [*sorted({*inside.tolist(), *outside.tolist()}, reverse=True), -1.0]:
        accepted = int((inside >= threshold).sum())
        points.append((accepted, int((outside < threshold).sum())))
    points.append((0, m))  # nothing is accepted
    tnr = max(refused / m for accepted, refused in points if 100 * accepted >= 95 * n)
    detection = max((accepted / n + refused / m) / 2 for accepted, refused in points)
    wins = (inside.unsqueeze(1) > outside).sum() + 0.5 * (inside.unsqueeze(1) == outside).sum()
    return tnr, wins.item() / (n * m), detection


def test_by_hand_with_ties() -> None:
    """20 inside: 19 at .8, 1 at .2; 4 outside: .9, .8, .5, .1.

    At 95% the threshold is .8, where the tied .8 is accepted too: 2 of 4 are refused. Pairs won: 19 x (0 + 1/2
    + 1 + 1) + 1 x 1 of 80. Best threshold .8: (19/20 + 2/4) / 2.
    """
    inside = torch.tensor([0.8] * 19 + [0.2])
    found = ev.ood_metrics(inside, torch.tensor([0.9, 0.8, 0.5, 0.1]))
    assert found.tnr_at_tpr95 == 0.5
    assert found.auroc == pytest.approx((19 * 2.5 + 1) / 80)
    assert found.detection_accuracy == pytest.approx((19 / 20 + 2 / 4) / 2)


def test_in_distribution_is_the_positive_class() -> None:
    """The other way round the numbers differ: nine tenths of 10 inside above half of the outside."""
    inside, outside = torch.arange(10.0), torch.tensor([0.5, 100.0])
    assert ev.ood_metrics(inside, outside).tnr_at_tpr95 == 0.0
    assert ev.ood_metrics(inside + 1, outside).tnr_at_tpr95 == 0.5
    assert ev.ood_metrics(inside, outside - 1000).auroc == 1.0
    assert ev.ood_metrics(inside, outside + 1000).auroc == 0.0


@settings(deadline=None, max_examples=60, derandomize=True)
@given(SCORES, SCORES)
def test_every_figure_is_a_count(inside: list[int], outside: list[int]) -> None:
    a, b = torch.tensor(inside, dtype=torch.float64), torch.tensor(outside, dtype=torch.float64)
    found = ev.ood_metrics(a, b)
    expected = by_counting(a, b)
    assert (found.tnr_at_tpr95, found.auroc, found.detection_accuracy) == pytest.approx(expected)


def test_scores_beyond_one_are_scores_too() -> None:
    """Only the order counts: a sigmoid in between would tie large scores."""
    a, b = torch.tensor([101.0, 103.0, 104.0]), torch.tensor([100.0, 102.0])
    assert ev.ood_metrics(a, b) == ev.ood_metrics(a / 1000, b / 1000)
    assert ev.ood_metrics(a, b).auroc == pytest.approx(5 / 6)


def test_report_averages_over_sets() -> None:
    inside = torch.tensor([0.9, 0.8])
    sets = {"one": torch.tensor([0.1]), "many": torch.tensor([0.95] * 9)}
    report = ev.ood_report(inside, sets)
    assert list(report) == ["one", "many", "mean"]
    assert report["one"] == ev.OODMetrics(1.0, 1.0, 1.0)
    assert report["many"] == ev.OODMetrics(0.0, 0.0, 0.5)
    assert report["mean"] == ev.OODMetrics(0.5, 0.5, 0.75)  # sets count the same, not samples


def test_max_softmax_keeps_the_order_of_sure_predictions() -> None:
    logits = torch.tensor([[30.0, 0.0], [25.0, 0.0], [2.0, 1.0]])
    scores = ev.max_softmax(logits)
    assert scores[0] > scores[1] > scores[2]  # in float32 the first two would tie at 1
    assert scores[2].item() == pytest.approx(torch.tensor(1.0).sigmoid().item())


def test_noise() -> None:
    g = torch.Generator().manual_seed(0)
    flat, bell = ev.uniform_noise(200, (3, 8, 8), g), ev.gaussian_noise(200, (3, 8, 8), g)
    for noise in (flat, bell):
        assert noise.shape == (200, 3, 8, 8)
        assert noise.min() >= 0
        assert noise.max() <= 1
        assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
    assert flat.std().item() == pytest.approx(12**-0.5, abs=0.01)
    for end in (0.0, 1.0):  # P(|z| > .5) / 2
        assert (bell == end).double().mean().item() == pytest.approx(0.3085, abs=0.01)
        assert not (flat == end).double().mean() > 0.001
    assert not torch.equal(ev.uniform_noise(1, (4,), g), ev.uniform_noise(1, (4,), g))
    assert torch.equal(ev.uniform_noise(1, (4,)), ev.uniform_noise(1, (4,)))


def test_bad_input_is_refused() -> None:
    ok = torch.tensor([0.5])
    with pytest.raises(DataError, match="both kinds"):
        ev.ood_metrics(ok, ok[:0])
    with pytest.raises(DataError, match="NaN"):
        ev.ood_metrics(torch.tensor([torch.nan]), ok)
    for sets in ({}, {"mean": ok}):
        with pytest.raises(DataError, match="at least one out-of-distribution set"):
            ev.ood_report(ok, sets)
    with pytest.raises(DataError, match="at least one"):
        ev.uniform_noise(0, (3,))
