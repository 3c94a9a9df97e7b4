"""Permutations are those of PyTorch's argsort."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan import mix as m
from lessonplan.mix.permutations import permutations


@settings(deadline=None, max_examples=60)
@given(
    n=st.one_of(st.integers(1, 400), st.sampled_from([255, 256, 1024, 1025, 4096, 20_000])),
    count=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_places_are_those_of_argsort(n, count, seed):
    drawn = torch.rand(count, n, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(permutations(drawn), drawn.argsort(1))


@pytest.mark.parametrize("n", [300, 1024, 70_000])
def test_extremes_and_equal_numbers(n):
    drawn = torch.rand(1, n, generator=torch.Generator().manual_seed(0))
    drawn[0, [0, n // 2]] = torch.tensor([0.0, 1.0 - 2.0**-24])
    assert torch.equal(permutations(drawn), drawn.argsort(1))
    drawn[0, 7:20] = drawn[0, 200]
    assert torch.equal(permutations(drawn), drawn.argsort(1))


def test_what_is_drawn_has_24_digits():
    """Or numbers that differ beyond them would be taken for equal."""
    drawn = torch.rand(1_000_000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn * 2.0**24, (drawn * 2.0**24).round())


def test_transforms_may_look_at_a_mix_of_many():
    x, y = torch.rand(300, 2, generator=torch.Generator().manual_seed(2)), torch.arange(300) % 3
    plain, other = (m.Mixup(num_classes=3, seed=1) for _ in range(2))
    wanted = x.clone().requires_grad_()
    plain(wanted, y)[0].square().sum().backward()
    got = torch.func.grad(lambda x: other(x, y)[0].square().sum())(x)
    torch.testing.assert_close(got, wanted.grad)
