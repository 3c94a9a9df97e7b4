"""Attention over modules that narrows: weights by hand and by formula, and which modules run."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.ideas import TopKAttention
from lessonplan.mix.functional import gcc


class Times(nn.Module):
    """Multiplies by a number and notes how many samples came."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.seen = factor, []

    def forward(self, x):
        self.seen.append(len(x))
        return self.factor * x


def layer(n=4, features=3, seed=0, **options):
    made = TopKAttention([Times(10.0**j) for j in range(n)], features, **options).double()
    with torch.no_grad():
        made.keys.copy_(
            torch.randn(n, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        )
    return made


def inputs(n=6, features=3, seed=1):
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(made, x, coefficients):
    """The weights of one sample, in plain Python."""
    d = len(x)
    scores = [
        sum(k * v for k, v in zip(key, x.tolist(), strict=True)) / math.sqrt(d) for key in made.keys.tolist()
    ]
    ranking = sorted(range(len(scores)), key=lambda j: -scores[j])
    weighted = [0.0] * len(scores)
    for rank, j in enumerate(ranking):
        weighted[j] = math.exp(scores[j]) * float(coefficients[rank])
    return [w / sum(weighted) for w in weighted]


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_attention_follows_the_formula(progress):
    made, x = layer(), inputs()
    made.advance(progress)
    expected = torch.tensor([by_hand(made, row, gcc(4, progress)) for row in x], dtype=torch.float64)
    torch.testing.assert_close(made.attention(x), expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("progress", [0.0, 0.3, 2 / 3, 1.0])
def test_output_is_the_weighted_sum(progress):
    made, x = layer(), inputs()
    made.advance(progress)
    factors = torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64)
    torch.testing.assert_close(made(x), (made.attention(x) @ factors)[:, None] * x)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.floats(0, 1), st.data())
def test_equal_scores_give_the_cascading_coefficients(n, progress, data):
    keep = data.draw(st.integers(1, n - 1))
    made = TopKAttention([nn.Identity() for _ in range(n)], 2, keep=keep)
    made.advance(progress)
    weights = made.attention(torch.ones(1, 2))[0]
    expected = gcc(n, progress * (n - keep) / (n - 1)).float()
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.integers(0, 1000), st.floats(0, 1))
def test_weights_sum_to_one_and_only_the_best_have_any(n, seed, progress):
    made, x = layer(n, seed=seed), inputs(seed=seed + 1)
    made.advance(progress)
    weights = made.attention(x)
    torch.testing.assert_close(weights.sum(1), torch.ones(6, dtype=torch.float64))
    assert (weights >= 0).all()
    scores = x @ made.keys.T
    kept = torch.where(weights > 0, scores, math.inf).amin(1)
    dropped = torch.where(weights == 0, scores, -math.inf).amax(1)
    assert (kept >= dropped).all()


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_end_is_plain_top_k(keep):
    made, x = layer(keep=keep), inputs()
    made.advance(1.0)
    scores = (x @ made.keys.T) / math.sqrt(3)
    best = scores.topk(keep)
    expected = torch.zeros(6, 4, dtype=torch.float64).scatter(1, best.indices, best.values.softmax(1))
    torch.testing.assert_close(made.attention(x), expected)


@pytest.mark.parametrize(("n", "keep"), [(23, 8), (24, 11), (27, 12)])
def test_rounding_keeps_no_module_alive(n, keep):
    """In these sizes (n - keep) / (n - 1) * (n - 1) lies just below n - keep."""
    made = layer(n, keep=keep)
    made.advance(1.0)
    assert (made.attention(inputs()) > 0).sum(1).tolist() == [keep] * 6


@pytest.mark.parametrize("variant", ["thesis", "progress", "linear"])
def test_there_is_no_jump(variant):
    made, x = layer(variant=variant), inputs()
    steps = 1000
    last = None
    for i in range(steps + 1):
        made.advance(i / steps)
        now = made.attention(x)
        assert last is None or (now - last).abs().max() < 20 / steps
        last = now
    assert last is not None
    assert (last.amax(1) == 1).all()


def test_modules_run_only_where_they_have_weight():
    made, x = layer(), inputs(50)
    made(x)
    assert [b.seen for b in made.branches] == [[50]] * 4
    for branch in made.branches:
        branch.seen.clear()
    made.advance(1.0)
    counts = (x @ made.keys.T).argmax(1).bincount(minlength=4).tolist()
    made(x)
    assert [sum(b.seen) for b in made.branches] == counts
    for branch in made.branches:
        branch.seen.clear()
    made(x[:1])
    assert sorted(b.seen for b in made.branches) == [[], [], [], [1]]


def test_images_are_pooled_and_every_sample_has_its_own_choice():
    made = layer()
    x = torch.randn(5, 3, 4, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    made.advance(0.5)
    torch.testing.assert_close(made.attention(x), made.attention(x.mean((2, 3))))
    torch.testing.assert_close(made(x)[1:2], made(x[1:2]))
    assert made(x).shape == x.shape


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_gradient_by_finite_differences(progress):
    made, x = layer(), inputs(3)
    made.advance(progress)

    def output(keys, x):
        return torch.func.functional_call(made, {"keys": keys}, (x,))

    assert torch.autograd.gradcheck(output, (made.keys.detach().requires_grad_(), x.requires_grad_()))


def test_keys_learn_which_module_is_right():
    """Positive samples are to be kept, negative ones doubled: fading ends with each at its own module."""
    made = TopKAttention([Times(1.0), Times(2.0)], 1)
    x = torch.tensor([[1.0], [2.0], [-1.0], [-2.0]])
    target = torch.tensor([[1.0], [2.0], [-2.0], [-4.0]])
    optimizer = torch.optim.SGD(made.parameters(), lr=0.5)
    for step in range(200):
        optimizer.zero_grad()
        ((made(x) - target) ** 2).mean().backward()
        optimizer.step()
        made.advance(step / 199)
    torch.testing.assert_close(made(x), target)


def test_progress_is_in_the_state():
    made = layer()
    made.advance(0.6)
    again = layer(seed=7)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.attention(inputs()), made.attention(inputs()))


def test_an_empty_batch_has_an_empty_output():
    made = layer()
    made.advance(0.5)
    assert made(inputs(0)).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n": 1}, "at least 2"),
        ({"keep": 0}, "keep=0"),
        ({"keep": 4}, "from 1 to 3"),
        ({"variant": "liner"}, "did you mean 'linear'"),
    ],
)
def test_settings_that_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        layer(**options)


def test_inputs_that_are_refused():
    with pytest.raises(ConfigError, match=r"\(N, 3, ...\)"):
        layer()(torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="features=0"):
        TopKAttention([nn.Identity(), nn.Identity()], 0)
    with pytest.raises(ConfigError, match="share in"):
        layer().advance(1.5)
