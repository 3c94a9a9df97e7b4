"""What is added to which sample, how norms go down, and where gradients go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan.errors import ConfigError, DataError
from lessonplan.ideas import SampleEmbeddings


def filled(count=6, *shape, seed=0):
    made = SampleEmbeddings(count, *shape).double()
    with torch.no_grad():
        made.weight.copy_(torch.randn(made.weight.shape, generator=torch.Generator().manual_seed(seed)))
    return made


def test_every_sample_gets_its_own():
    made = filled(6, 2, 3)
    x, rows = torch.ones(4, 2, 3, dtype=torch.float64), torch.tensor([5, 0, 5, 2])
    found = made(x, rows)
    for i, row in enumerate([5, 0, 5, 2]):
        assert torch.equal(found[i], 1 + made.weight[row])
    assert (x == 1).all()


def test_they_start_at_zero_and_learn_all_the_same():
    made = SampleEmbeddings(4, 3)
    x, rows = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 1])
    assert torch.equal(made(x, rows), x)
    made(x, rows).sum().backward()
    assert made.weight.grad.tolist() == [[0.0] * 3, [1.0] * 3, [0.0] * 3, [1.0] * 3]


def test_gradients_of_a_repeated_sample_add_up():
    made = filled(3, 2)
    weights = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]], dtype=torch.float64)
    (made(torch.zeros(3, 2, dtype=torch.float64), torch.tensor([1, 2, 1])) * weights).sum().backward()
    assert made.weight.grad.tolist() == [[0.0, 0.0], [101.0, 202.0], [10.0, 20.0]]


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 1), st.integers(1, 20))
def test_shrinking_is_geometric_and_keeps_directions(fraction, times):
    made = filled(5, 2, 2)
    before, norms = made.weight.detach().clone(), made.norms()
    for _ in range(times):
        made.shrink(fraction)
    torch.testing.assert_close(made.norms(), norms * (1 - fraction) ** times)
    torch.testing.assert_close(made.weight.detach(), before * (1 - fraction) ** times)


def test_shrinking_by_all_leaves_the_network_alone():
    made = filled(5, 2)
    made.shrink(1.0)
    x = torch.ones(5, 2, dtype=torch.float64)
    assert torch.equal(made(x, torch.arange(5)), x)


def test_norms_and_penalty_by_hand():
    made = SampleEmbeddings(3, 1, 2)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[6.0, 8.0]]]))
    assert made.norms().tolist() == [5.0, 0.0, 10.0]
    penalty = made.penalty(torch.tensor([0, 1, 2]))
    penalty.backward()
    assert penalty.item() == 5.0
    expected = torch.tensor([[[0.6, 0.8]], [[0.0, 0.0]], [[0.6, 0.8]]]) / 3
    torch.testing.assert_close(made.weight.grad, expected)


def test_the_penalty_alone_brings_every_norm_down_by_the_same_length():
    made = filled(4, 8)
    norms = made.norms()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.4)
    for _ in range(3):
        optimizer.zero_grad()
        made.penalty(torch.arange(4)).backward()
        optimizer.step()
    torch.testing.assert_close(made.norms(), norms - 3 * 0.4 / 4)


def test_a_wrong_label_goes_into_the_embedding_and_leaves_with_it():
    """A line through four points, one of them off by 8: the embedding holds what the line cannot."""
    x = torch.tensor([[-1.0], [0.0], [1.0], [2.0]])
    y = 2 * x + torch.tensor([[0.0], [8.0], [0.0], [0.0]])
    weight = torch.zeros(1, requires_grad=True)
    made = SampleEmbeddings(4, 1)
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.05}, {"params": made.parameters(), "lr": 0.3}])
    for _ in range(400):
        optimizer.zero_grad()
        (0.5 * (made(x * weight, torch.arange(4)) - y) ** 2).mean().backward()
        optimizer.step()
    assert made.norms().argmax() == 1
    assert made.norms()[1].item() == pytest.approx(8.0, abs=0.01)


@pytest.mark.parametrize("arguments", [(0, 3), (5,), (5, 0)])
def test_sizes_that_are_refused(arguments):
    with pytest.raises(ConfigError, match="at least 1"):
        SampleEmbeddings(*arguments)


def test_inputs_that_are_refused():
    made = SampleEmbeddings(4, 2)
    with pytest.raises(ConfigError, match=r"give \(2, 2\)"):
        made(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match=r"give \(1, 2\)"):
        made(torch.zeros(2, 2), torch.tensor([0]))
    with pytest.raises(ConfigError, match="int64"):
        made(torch.zeros(2, 2), torch.tensor([0.0, 1.0]))
    with pytest.raises(ConfigError, match="no rows"):
        made.penalty(torch.zeros(0, dtype=torch.int64))
    for row in (4, -1):
        with pytest.raises(DataError, match="0 to 3"):
            made.penalty(torch.tensor([0, row]))
    for fraction in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="fraction"):
            made.shrink(fraction)
