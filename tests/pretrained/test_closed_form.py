"""Heads without training against scikit-learn and against distances that are counted out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.pretrained.closed_form import STRENGTHS, logistic_regression, nearest_class_mean, put_into


def samples(n: int, length: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Classes that overlap, in features of many scales far from zero."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    centres = np.random.default_rng(99).normal(size=(classes, length))
    x = (centres[y] + 1.5 * rng.normal(size=(n, length))) * np.logspace(-3, 2, length) + 5.0
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("n", "length"), [(60, 8), (30, 50)])
@pytest.mark.parametrize("validated", [True, False])
def test_logistic_regression_is_scikit_learns(classes: int, n: int, length: int, validated: bool) -> None:
    x, y = samples(n, length, classes)
    val = samples(40, length, classes, seed=1)
    weight, bias, strength = logistic_regression(x, y, classes, val if validated else None, seed=0)
    assert strength in STRENGTHS
    scaler = StandardScaler().fit(x.double().numpy())
    reference = LogisticRegression(C=strength, max_iter=20_000, tol=1e-8)
    reference.fit(scaler.transform(x.double().numpy()), y.numpy())
    expected = torch.tensor(reference.predict_proba(scaler.transform(val[0].double().numpy())))
    found = (val[0].double() @ weight.double().T + bias.double()).softmax(1)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
    if validated:  # no other C is right more often, and none of its equals has a loss that is clearly smaller
        right, loss = {}, {}
        for c in STRENGTHS:
            model = LogisticRegression(C=c, max_iter=20_000, tol=1e-8)
            model.fit(scaler.transform(x.double().numpy()), y.numpy())
            p = model.predict_proba(scaler.transform(val[0].double().numpy()))
            right[c] = (p.argmax(1) == val[1].numpy()).mean()
            loss[c] = -np.log(p[np.arange(40), val[1].numpy()]).mean()
        assert right[strength] == max(right.values())
        assert loss[strength] <= 0.01 + min(loss[c] for c in STRENGTHS if right[c] == right[strength])


@pytest.mark.parametrize("seed", [-1, 0, 2**40])
def test_any_seed_cuts_folds(seed: int) -> None:
    x, y = samples(30, 4, 3)
    weight, _, _ = logistic_regression(x, y, 3, None, seed)
    assert torch.equal(weight, logistic_regression(x, y, 3, None, seed)[0])


def test_a_feature_that_is_constant_says_nothing() -> None:
    """Not in validation data or later either, where it may be something else."""
    x, y = samples(40, 5, 2)
    x[:, 2] = 0.1
    weight, _, _ = logistic_regression(x, y, 2, None, 0)
    assert weight[:, 2].abs().max() < 1e-6
    without, _, _ = logistic_regression(x[:, [0, 1, 3, 4]], y, 2, None, 0)
    torch.testing.assert_close(weight[:, [0, 1, 3, 4]], without, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("per_class", [1, 2])
def test_few_samples_will_do(per_class: int) -> None:
    x, y = samples(3 * per_class, 20, 3)
    weight, bias, _ = logistic_regression(x, y, 3, None, 0)
    assert torch.equal((x @ weight.T + bias).argmax(1), y)
    with pytest.raises(ConfigError, match="two classes or more"):
        logistic_regression(x, torch.ones_like(y), 3, None, 0)


@pytest.mark.parametrize("absent", [0, 2])
@pytest.mark.parametrize("kind", ["logreg", "ncm"])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_classes_without_samples_are_never_decided_for(kind: str, absent: int, scale: float) -> None:
    """However far a sample is from everything that was seen, and however close classes are to their means."""
    x, y = samples(60, 8, 3)
    x, y = scale * x[y != absent], y[y != absent]
    if kind == "ncm":
        x = torch.stack([x[y == label].mean(0) for label in y.tolist()]) + 1e-3 * x  # nearly no spread
        weight, bias = nearest_class_mean(x, y, 3)
    else:
        weight, bias, _ = logistic_regression(x, y, 3, (x, (y + 1) % 3), 0)
    far = torch.cat([x, torch.zeros(1, 8), 1e3 * torch.randn(50, 8), 1e3 * scale * torch.randn(50, 8)])
    logits = far @ weight.T + bias
    assert torch.isfinite(logits).all()
    assert not (logits.argmax(1) == absent).any()
    assert (x @ weight.T + bias).softmax(1)[:, absent].max() == 0


@pytest.mark.parametrize(("n", "length", "classes"), [(60, 8, 3), (10, 30, 4), (9, 2, 2), (4, 6, 4)])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_the_nearest_mean_by_counting_out(n: int, length: int, classes: int, offset: float) -> None:
    x, y = samples(n, length, classes)
    x = x + offset
    weight, bias = nearest_class_mean(x, y, classes)
    asked = samples(200, length, classes, seed=5)[0] + offset
    logits = asked @ weight.T + bias
    distance = torch.zeros(200, classes, dtype=torch.float64)
    means = [x[y == label].double().mean(0) for label in range(classes)]
    for i in range(200):
        for label in range(classes):
            distance[i, label] = ((asked[i].double() - means[label]) ** 2).sum()
    two = distance.sort(1).values
    clear = two[:, 1] - two[:, 0] > 1e-3 * two[:, 0]
    assert clear.sum() > 150
    assert torch.equal(logits.argmax(1)[clear], distance.argmin(1)[clear])
    if n == classes:
        assert logits.abs().max() < 1e4, "a sample a class is no certainty"
    else:  # probabilities of Gaussians with the variance within classes
        within = sum(float(((x[y == c].double() - means[c]) ** 2).sum()) for c in range(classes))
        variance = within / ((n - classes) * length)
        torch.testing.assert_close(
            logits.double().log_softmax(1), (-distance / (2 * variance)).log_softmax(1), rtol=1e-2, atol=0.05
        )


def test_samples_that_are_all_the_same() -> None:
    weight, bias = nearest_class_mean(torch.ones(4, 3), torch.tensor([0, 0, 1, 1]), 2)
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()


@pytest.mark.parametrize(
    ("head", "said"),
    [(nn.Sequential(nn.Linear(3, 2)), "is Sequential"), (nn.Linear(3, 2, bias=False), "is a Linear without one")],
)
def test_only_linear_heads_are_set(head: nn.Module, said: str) -> None:
    with pytest.raises(
        ConfigError, match=f"a linear layer with a bias, and the head {said}: give fit_head='train'"
    ):
        put_into(head, torch.zeros(2, 3), torch.zeros(2))
