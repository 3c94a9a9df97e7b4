"""Published selectors: what their papers promise, checked against autograd, expectations and published rates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lessonplan.errors import ConfigError, DataError
from lessonplan.select.base import Scored
from lessonplan.select.functional import rounds
from lessonplan.select.published import (
    ActiveBias,
    GradientNorm,
    InfoBatch,
    RecencyBias,
    RhoLoss,
    SelectiveBackprop,
    holdout_losses,
)
from lessonplan.select.published.gradient_norm import gradient_bound, variance_gain


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scored(logits: torch.Tensor, targets: torch.Tensor, indices: torch.Tensor | None = None) -> Scored:
    indices = torch.arange(len(targets)) if indices is None else indices
    return Scored(indices, targets, logits, cross_entropy(logits, targets, reduction="none"))


# -- Selective-Backprop ------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "rate"), [(1.0, 1 / 2), (2.0, 1 / 3), (3.0, 1 / 4)])
def test_selectivity(beta, rate):
    """The paper's table of beta and selectivity: 1 / (beta + 1) of the samples."""
    part, g, kept = SelectiveBackprop(beta), generator(), 0
    for _ in range(100):
        kept += len(part(torch.rand(128, generator=g).exp(), 128, g)[0])
    assert kept / 12800 == pytest.approx(rate, abs=0.02)


def test_the_largest_loss_of_all_is_always_kept_and_old_losses_fade():
    part, g = SelectiveBackprop(beta=20.0, history=10), generator()
    part(torch.full((10,), 100.0), 10, g)
    assert 9 not in part(torch.cat([torch.ones(4), torch.full((1,), 2.0)]), 5, g)[0].tolist()
    for _ in range(2):
        part(torch.rand(5, generator=g), 5, g)
    assert part(torch.tensor([0.0, 5.0]), 2, g)[0].tolist()[-1] == 1


def test_a_history_of_one_loss_compares_with_the_last_one():
    """CDF(loss) is 1 for the last loss and all that are as large, 0 below it."""
    part = SelectiveBackprop(history=1)
    assert part(torch.tensor([3.0, 1.0, 2.0]), 3, generator())[0].tolist() == [0, 2]


# -- InfoBatch ---------------------------------------------------------------------------------------


def test_rescaling_keeps_the_expected_sum():
    part, g = InfoBatch(ratio=0.7), generator()
    part.make_room(40, 2)
    losses = torch.rand(40, generator=g) ** 3
    part.observe(Scored(torch.arange(40), torch.zeros(40), None, losses))
    everything = Scored(torch.arange(40), torch.zeros(40))
    values = torch.randn(40, generator=g).double() + losses
    sums, kept = [], 0
    for _ in range(3000):
        positions, weights = part(part.score(everything), 40, g)
        sums.append((values[positions] * weights).sum())
        kept += len(positions)
    estimate = torch.stack(sums)
    assert (estimate.mean() - values.sum()).abs() < 4.5 * estimate.std() / math.sqrt(3000)
    learnt = int((losses < losses.mean()).sum())
    assert kept / 3000 == pytest.approx(40 - 0.7 * learnt, abs=0.3)


def test_unseen_samples_stay_and_the_end_takes_all():
    part, g = InfoBatch(ratio=0.999), generator()
    part.make_room(10, 2)
    part.observe(Scored(torch.arange(5), torch.zeros(5), None, torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0])))
    everything = Scored(torch.arange(10), torch.zeros(10))
    positions, weights = part(part.score(everything), 10, g)
    assert positions.tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert weights.tolist() == [1.0] * 7
    assert part.needs == "history"
    part.advance(0.875)
    assert part.needs == "nothing"
    positions, weights = part(part.score(everything), 10, g)
    assert len(positions) == 10
    assert weights is None


def test_the_running_sum_stays_the_mean_of_the_table():
    part, g = InfoBatch(), generator()
    part.make_room(20, 2)
    for _ in range(200):
        indices = torch.randint(20, (7,), generator=g)
        part.observe(Scored(indices, torch.zeros(7), None, torch.rand(7, generator=g) * 9))
    table = part.tables["losses"].double()
    torch.testing.assert_close(part.score(Scored(torch.arange(20), torch.zeros(20))), table - table.nanmean())


# -- gradient norm -----------------------------------------------------------------------------------


def test_the_bound_is_the_gradient_at_the_logits():
    g = generator()
    logits = (torch.randn(30, 7, generator=g) * 3).requires_grad_()
    targets = torch.randint(7, (30,), generator=g)
    cross_entropy(logits, targets, reduction="sum").backward()
    torch.testing.assert_close(gradient_bound(logits.detach(), targets), logits.grad.norm(dim=1))
    for dtype in (torch.uint8, torch.int32):  # as indices, bytes would be a mask
        assert torch.equal(gradient_bound(logits.detach(), targets.to(dtype)), gradient_bound(logits, targets))


def test_tau_is_what_the_variance_gains():
    """tau^2 b is the uniform batch with the spread of b draws by the norms, for gradients of one direction."""
    bounds = torch.rand(50, generator=generator()).double() + 0.01
    g, u = bounds / bounds.sum(), torch.full((50,), 1 / 50, dtype=torch.float64)
    away = ((g - u).square().sum() / g.square().sum()).item()
    assert variance_gain(bounds) == pytest.approx((1 - away) ** -0.5)
    second_uniform, second_by_norm = (bounds**2 / 50).sum(), (bounds / (50 * g)).square().mul(g).sum()
    assert variance_gain(bounds) ** 2 == pytest.approx((second_uniform / second_by_norm).item())


def test_the_weighted_gradient_is_unbiased():
    g = generator()
    model, x, y = nn.Linear(3, 4), torch.randn(12, 3, generator=g), torch.randint(4, (12,), generator=g)
    part = GradientNorm(0.25, threshold=1.0)
    part.tau = 2.0
    assert part.needs == "forward"
    losses = cross_entropy(model(x), y, reduction="none")
    grads = torch.stack([torch.autograd.grad(one, model.weight, retain_graph=True)[0] for one in losses])
    positions, weights = part(part.score(scored(model(x).detach(), y)), 60_000, g)
    estimates = grads[positions] * weights[:, None, None]
    error = (estimates.mean(0) - grads.mean(0)).abs()
    assert (error < 4.5 * estimates.std(0) / math.sqrt(60_000)).all()
    assert not ((grads[positions].mean(0) - grads.mean(0)).abs() < 4.5 * grads.std(0) / math.sqrt(60_000)).all()


def test_it_switches_on_when_it_pays_and_off_again():
    part, g = GradientNorm(4, smoothing=0.0), generator()
    learnt = torch.eye(3).repeat(20, 1) * 30
    mixed = learnt.clone()
    mixed[:3] = 0.0
    targets = torch.arange(3).repeat(20)
    assert part.needs == "nothing"
    positions, weights = part(part.score(Scored(torch.arange(60), targets)), 4, g)
    assert weights is None
    part.observe(scored(mixed, targets))
    assert part.tau == pytest.approx(math.sqrt(20), rel=1e-3)  # 3 of 60 have a gradient
    assert part.needs == "nothing"  # 1 + 60 / 12 is more
    part.threshold = 4.0
    assert part.needs == "forward"
    positions, weights = part(part.score(scored(mixed, targets)), 4, g)
    assert set(positions.tolist()) <= {0, 1, 2}
    torch.testing.assert_close(weights, torch.full((4,), 3 / 60), rtol=1e-4, atol=0)
    tau = part.tau
    restored = GradientNorm(4, threshold=4.0, smoothing=0.0)
    restored.load_state_dict(part.state_dict())
    for one in (part, restored):
        one.observe(scored(torch.zeros(4, 3), targets[:4]))  # not drawn uniformly, so nothing is learnt from it
        assert one.tau == tau
    part(part.score(scored(torch.zeros(60, 3), targets)), 4, g)
    assert part.needs == "nothing"


def test_without_a_threshold_it_pays_when_it_saves_time():
    """N forward and 3 n for a step against tau 3 n: 1 + N / (3 n), with N and n as they are drawn."""
    part, g = GradientNorm(4), generator()
    for candidates, threshold in ((60, 6.0), (12, 2.0), (24, 3.0)):
        part.tau = 0.0
        part(torch.ones(candidates), 4, g)
        part.tau = threshold
        assert part.needs == "nothing"
        part.tau = threshold + 1e-6
        assert part.needs == "forward"
    part = GradientNorm(0.25)
    part.tau = 1 + 4 / 3 + 1e-6
    assert part.needs == "forward"


# -- RHO-LOSS ----------------------------------------------------------------------------------------


class Arrays:
    """Samples in memory, as a source of batches."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.labels, self.device = x, y, x.device

    def __len__(self) -> int:
        return len(self.x)

    def fetch(self, indices, epoch=0):
        return self.x[indices], self.labels[indices]

    def batches(self, index_batches, epoch=0):
        return (self.fetch(indices) for indices in index_batches)


def test_holdout_losses_are_the_models_and_leave_it_alone():
    g = generator()
    data = Arrays(torch.randn(700, 5, generator=g), torch.randint(3, (700,), generator=g))
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = holdout_losses(model, data)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    expected = cross_entropy(model.eval()(data.x), data.labels, reduction="none")
    torch.testing.assert_close(losses, expected.detach())


def test_what_cannot_be_learnt_is_left():
    """A mislabelled sample has a large loss in both models, a learnt one a small one."""
    part = RhoLoss(1, holdout=torch.tensor([4.0, 0.1, 0.1]))
    part.make_room(3, 2)
    losses = torch.tensor([4.2, 0.1, 2.0])
    assert part(part.score(Scored(torch.arange(3), torch.zeros(3), None, losses)), 1, generator())[0].tolist() == [
        2
    ]


def test_holdout_losses_by_name_are_given_later():
    part = RhoLoss(0.5, holdout="runs/other")
    rows = Scored(torch.arange(2), torch.zeros(2), None, torch.ones(2))
    with pytest.raises(ConfigError, match="does not know the holdout losses"):
        part.score(rows)
    part.make_room(2, 2)
    with pytest.raises(DataError, match="3 holdout losses for 2 training samples"):
        part.give_holdout(torch.ones(3))
    part.give_holdout(torch.tensor([0.0, 0.5]))
    assert part.score(rows).tolist() == [1.0, 0.5]
    assert part.config()["holdout"] == "runs/other"
    again = RhoLoss(0.5, holdout="runs/other")
    again.load_state_dict(part.state_dict())
    assert again.score(rows).tolist() == [1.0, 0.5]


def test_the_checksum_tells_holdout_losses_apart():
    names = {RhoLoss(holdout=torch.tensor(losses)).config()["holdout"] for losses in ([0.0, 1.0], [0.0, 2.0])}
    assert len(names) == 2
    assert all(isinstance(name, str) for name in names)


# -- recency bias ------------------------------------------------------------------------------------


def labels_as_logits(labels: list[int], classes: int = 4) -> torch.Tensor:
    return nn.functional.one_hot(torch.tensor(labels), classes).double()


def test_uncertainty_of_the_last_predictions():
    part = RecencyBias(window=4)
    part.make_room(3, 4)
    for labels in ([0, 0], [0, 0], [0, 1], [0, 2], [0, 3], [0, 0]):
        part.observe(scored(labels_as_logits(labels), torch.zeros(2, dtype=torch.int64)))
    everything = Scored(torch.arange(3), torch.zeros(3))
    # All four classes once within the window, though class 0 came three times before; never seen: uncertain.
    assert part.score(everything).tolist() == pytest.approx([0.0, 1.0, 1.0])


def test_the_pressure_is_the_preference_for_the_most_uncertain():
    """100 to 1 as the warm-up ends, 10 to 1 halfway from there, even at the end."""
    part = RecencyBias(1, pressure=100.0, warmup=0.2)
    part.make_room(2, 2)
    uncertain = torch.tensor([1.0, 0.0])
    for progress, ratio in ((0.1, 1.0), (0.2, 100.0), (0.6, 10.0), (1.0, 1.0)):
        part.advance(progress)
        g = generator()
        first = sum(part(uncertain, 1, g)[0].item() == 0 for _ in range(1500)) / 1500
        p = ratio / (1 + ratio)
        assert abs(first - p) < 4.5 * math.sqrt(p * (1 - p) / 1500)


# -- active bias -------------------------------------------------------------------------------------


def probabilities(p: list[float]) -> torch.Tensor:
    q = torch.tensor(p, dtype=torch.float64)
    return torch.stack([q, 1 - q], 1).log()


def test_emphasis_is_the_spread_of_the_right_class():
    part = ActiveBias(1.0, weights=True, smoothing=0.1, warmup=0.0)
    part.make_room(3, 2)
    for p in ([0.2, 0.5], [0.8, 0.5], [0.5, 0.5]):
        part.observe(scored(probabilities(p), torch.zeros(2, dtype=torch.int64)))
    v = 0.06  # of .2, .8 and .5
    emphasis = part.score(Scored(torch.arange(3), torch.zeros(3)))
    assert emphasis.tolist() == pytest.approx([math.sqrt(v + v**2 / 2) + 0.1, 0.1, 0.1])
    weights = part(emphasis, 3, generator())[1]
    assert weights.mean().item() == pytest.approx(1.0)
    assert (weights[0] / weights[1]).item() == pytest.approx(emphasis[0] / emphasis[1])


def test_the_running_sum_of_spreads_is_their_sum():
    part, g = ActiveBias(warmup=0.0), generator()
    part.make_room(12, 4)
    for _ in range(100):
        indices = torch.randint(12, (7,), generator=g)
        part.observe(scored(torch.randn(7, 4, generator=g), indices % 4, indices))
    everything = torch.arange(12)
    mean = part.spread(everything).mean()
    assert mean > 0
    emphasis = part.score(Scored(everything, everything))
    torch.testing.assert_close(emphasis, part.spread(everything) + mean, rtol=1e-12, atol=0)


def test_drawing_follows_the_emphasis():
    part, g = ActiveBias(1), generator()
    part.advance(0.5)
    first = sum(part(torch.tensor([0.3, 0.1]), 1, g)[0].item() == 0 for _ in range(1500)) / 1500
    assert abs(first - 0.75) < 4.5 * math.sqrt(0.75 * 0.25 / 1500)


# -- all that remember -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [InfoBatch, RecencyBias, ActiveBias])
def test_histories_fit_their_data(make):
    part = make()
    rows = Scored(torch.arange(2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ConfigError, match="call make_room"):
        part.score(rows)
    part.make_room(5, 3)
    with pytest.raises(DataError, match=f"^{part.name} .*was trained on"):
        part.observe(rows)
    other = make()
    other.make_room(6, 3)
    with pytest.raises(DataError, match="go on with the data it began with"):
        other.load_state_dict(part.state_dict())


def test_no_samples_have_no_rounds():
    assert list(rounds(torch.zeros(0, dtype=torch.int64))) == []
    assert [rows.tolist() for rows in rounds(torch.tensor([4, 7, 4, 4]))] == [[0, 1], [2], [3]]


def test_a_reduced_loss_is_not_stored():
    part = InfoBatch()
    part.make_room(5, 3)
    for indices in ([0, 1], [2, 2]):
        with pytest.raises(DataError, match=r"a loss for each of 2 .*got the shape \(\)"):
            part.observe(Scored(torch.tensor(indices), torch.zeros(2), None, torch.tensor(0.5)))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (SelectiveBackprop, {"beta": 0.0}),
        (SelectiveBackprop, {"beta": math.nan}),
        (SelectiveBackprop, {"history": 0}),
        (InfoBatch, {"ratio": 1.0}),
        (InfoBatch, {"ratio": 0.0}),
        (InfoBatch, {"end": 1.1}),
        (GradientNorm, {"threshold": 0.9}),
        (GradientNorm, {"smoothing": 1.0}),
        (RhoLoss, {"size": 0}),
        (RecencyBias, {"window": 1}),
        (RecencyBias, {"pressure": 0.5}),
        (RecencyBias, {"warmup": 1.0}),
        (ActiveBias, {"smoothing": 0.0}),
        (ActiveBias, {"warmup": -0.1}),
    ],
)
def test_options_out_of_range(make, options):
    with pytest.raises(ConfigError, match="give"):
        make(**options)
