"""Averaged residual steps against hand-worked chains and a loop written from the formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.ideas import ResidualMomentum
from lessonplan.models import build_model


class Add(nn.Module):
    """Adds a number: a block whose residual is known."""

    def __init__(self, amount):
        super().__init__()
        self.amount = amount

    def forward(self, x):
        return x + self.amount


class Tanh(nn.Module):
    """A residual block that depends on where it is."""

    def __init__(self, seed):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(4, 4, generator=g, dtype=torch.float64))

    def branch(self, x):
        return torch.tanh(x @ self.weight)

    def forward(self, x):
        return x + self.branch(x)


def chain(length):
    return [Tanh(seed) for seed in range(length)]


def start(n=3):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # residuals 1, 2, 6: steps 1, (1 + 2) / 2, (2 + 6) / 2
        ({"window": 2}, 1 + 1.5 + 4),
        ({}, 1 + 1.5 + 4),
        ({"window": 3}, 1 + 1.5 + 3),
        ({"window": 1}, 9.0),
        # 1, .75 + .25 * 2 = 1.25, .75 * 1.25 + .25 * 6 = 2.4375
        ({"decay": 0.75}, 1 + 1.25 + 2.4375),
        ({"decay": 0.0}, 9.0),
    ],
)
def test_constant_residuals_by_hand(options, expected):
    blocks = ResidualMomentum(Add(1.0), Add(2.0), Add(6.0), **options)
    torch.testing.assert_close(blocks(torch.tensor([10.0])), torch.tensor([10.0 + expected]))


@pytest.mark.parametrize("window", [1, 2, 3, 9])
def test_window_follows_the_formula(window):
    blocks = chain(6)
    x, residuals = start(), []
    for block in blocks:
        residuals.append(block.branch(x))
        last = residuals[-window:]
        x = x + sum(last) / len(last)
    torch.testing.assert_close(ResidualMomentum(*blocks, window=window)(start()), x)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
def test_moving_average_follows_the_formula(decay):
    blocks = chain(6)
    x = start()
    v = blocks[0].branch(x)
    for block in blocks:
        v = decay * v + (1 - decay) * block.branch(x)
        x = x + v
    torch.testing.assert_close(ResidualMomentum(*blocks, decay=decay)(start()), x)


@pytest.mark.parametrize("options", [{"window": 1}, {"decay": 0.0}])
def test_plain_chain_is_the_same_to_the_last_bit(options):
    class Tiny(nn.Module):
        """Ends far below its input, as a ReLU behind the sum does: x + (out - x) is not quite out."""

        def forward(self, x):
            return 1e-3 * torch.tanh(x)

    blocks = [*chain(3), Tiny()]
    x = start(100)
    assert torch.equal(ResidualMomentum(*blocks, **options)(x), nn.Sequential(*blocks)(x))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=8),
    st.one_of(st.integers(1, 9).map(lambda w: {"window": w}), st.floats(0, 0.99).map(lambda d: {"decay": d})),
)
def test_no_step_leaves_the_range_of_the_residuals(amounts, options):
    """What the thesis saw, exploding values, cannot come from the averaging."""
    x = torch.zeros(1, dtype=torch.float64)
    for length in range(1, len(amounts) + 1):
        after = ResidualMomentum(*map(Add, amounts[:length]), **options)(torch.zeros(1, dtype=torch.float64))
        assert min(amounts[:length]) - 1e-9 <= (after - x).item() <= max(amounts[:length]) + 1e-9
        x = after


def test_a_change_of_shape_starts_anew():
    class Widen(nn.Module):
        def forward(self, x):
            return torch.cat([x, x])

    blocks = ResidualMomentum(Add(1.0), Widen(), Add(4.0), Add(6.0), window=2)
    torch.testing.assert_close(blocks(torch.tensor([0.0])), torch.tensor([1.0 + 4 + 5, 1.0 + 4 + 5]))


def test_calls_do_not_remember_each_other():
    blocks = ResidualMomentum(*chain(3), window=3)
    first = blocks(start())
    blocks(start() + 5)
    assert torch.equal(blocks(start()), first)


@pytest.mark.parametrize("options", [{"window": 3}, {"decay": 0.6}])
def test_gradient_by_finite_differences(options):
    blocks = ResidualMomentum(*chain(4), **options)
    assert torch.autograd.gradcheck(blocks, (start().requires_grad_(),))


def test_it_takes_the_place_of_a_stage_with_its_weights():
    model = build_model("wrn-22-1", shape=(3, 16, 16), num_classes=4, seed=0).eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    plain, state = model(x), model.state_dict()
    for name in model.stage_names:
        setattr(model, name, ResidualMomentum(*getattr(model, name), window=1))
    model.load_state_dict(state)
    assert torch.equal(model(x), plain)
    for name in model.stage_names:
        setattr(model, name, ResidualMomentum(*getattr(model, name), window=2))
    assert not torch.allclose(model(x), plain)
    model(x).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"window": 0}, "window=0"),
        ({"decay": 1.0}, "decay=1.0"),
        ({"decay": -0.1}, "decay=-0.1"),
        ({"window": 2, "decay": 0.5}, "the one"),
    ],
)
def test_numbers_that_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        ResidualMomentum(Add(1.0), **options)


def test_no_blocks_are_refused():
    with pytest.raises(ConfigError, match="no blocks"):
        ResidualMomentum()
