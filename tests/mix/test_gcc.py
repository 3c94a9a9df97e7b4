"""GCC against the thesis' printed equations, and the properties that make it a cascade."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lessonplan.errors import ConfigError
from lessonplan.mix import GradualCascade
from lessonplan.mix.functional import gcc

VARIANTS = ("thesis", "progress", "linear")
sizes, times = st.integers(2, 12), st.floats(0, 1)
some = settings(max_examples=150, deadline=None)
variants = pytest.mark.parametrize("variant", VARIANTS)


def printed(n, t, variant):
    """Equations 3.1-3.6 of the thesis, written out; eq. 3.4 as printed, with the progress, or left out."""
    k = math.floor(t * (n - 1))  # 3.1
    centroid = 1 / (n - k) + (t * (n - 1) - k) / ((n - k) * (n - k - 1))  # 3.2
    remainder = 1 - (centroid * (n - k - 1))  # 3.3
    if variant == "thesis":
        eps = remainder * (t - k / (n - 1)) / (n - 1)  # 3.4
    elif variant == "progress":
        eps = remainder * (t - k / (n - 1)) * (n - 1)  # the share of this image's phase that is over
    else:
        eps = 0.0
    main = centroid + eps / (n - k - 1)
    return [main] * (n - k - 1) + [remainder - eps] + [0.0] * k  # 3.6


@variants
@some
@given(n=sizes, t=times)
def test_equals_the_printed_equations(variant, n, t):
    assume(math.floor(t * (n - 1)) < n - 1)  # there the printed formula divides by zero
    assert gcc(n, t, variant).tolist() == pytest.approx(printed(n, t, variant), abs=1e-12)


def test_known_values():
    assert gcc(4, 0.5).tolist() == pytest.approx([0.4213, 0.4213, 0.1574, 0.0], abs=5e-5)
    # s = 1/2 in n = 2: sigma is 3/4 (thesis), 3/4 (progress), 1/2 (linear), and the coefficient (1 + sigma)/2.
    assert [gcc(2, 0.5, v)[0].item() for v in VARIANTS] == pytest.approx([0.875, 0.875, 0.75])
    # n = 3, t = 1/4, s = 1/2: the printed rule adds s(1-s)/(n-1)^2 = 1/16 to sigma, progress 1/4.
    last = [(1 - sigma) / 3 for sigma in (0.5625, 0.75, 0.5)]
    assert [gcc(3, 0.25, v)[2].item() for v in VARIANTS] == pytest.approx(last)
    assert gcc(4, 0.5).dtype == torch.float64


@variants
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_corners(variant, n):
    """Uniform at the start and wherever one image has just left; one clean image at the end."""
    assert gcc(n, 1.0, variant).tolist() == [1.0] + [0.0] * (n - 1)
    for gone in range(n):
        t = gone / (n - 1) if n > 1 else 0.0
        expected = [1 / (n - gone)] * (n - gone) + [0.0] * gone
        assert gcc(n, t, variant).tolist() == pytest.approx(expected, abs=1e-12)


@variants
@pytest.mark.parametrize("n", range(2, 13))
def test_just_before_the_end(variant, n):
    """The last numbers below 1, next to where the printed formula divides by zero."""
    t = 1.0
    for _ in range(5):
        t = math.nextafter(t, 0.0)
        assert gcc(n, t, variant).tolist() == pytest.approx([1.0] + [0.0] * (n - 1), abs=1e-12)


@variants
@some
@given(n=sizes, t=times)
def test_coefficients_are_shares(variant, n, t):
    c = gcc(n, t, variant)
    assert c.shape == (n,)
    assert c.sum().item() == pytest.approx(1, abs=1e-12)
    assert c.min() >= 0
    assert c.max() <= 1 + 1e-12
    assert (c.diff() <= 1e-12).all()  # an earlier image never weighs less than a later one


@variants
@some
@given(n=sizes, t=times, ahead=st.floats(0, 1))
def test_monotone_from_n_images_to_one(variant, n, t, ahead):
    later = t + ahead * (1 - t)
    a, b = gcc(n, t, variant), gcc(n, later, variant)
    assert b[0] >= a[0] - 1e-12
    assert b[-1] <= a[-1] + 1e-12
    effective_a, effective_b = (1 / (c**2).sum().item() for c in (a, b))
    assert 1 - 1e-9 <= effective_b <= effective_a + 1e-9 <= n + 1e-8


@variants
@some
@given(n=sizes, t=times, h=st.floats(1e-9, 1e-2))
def test_continuous(variant, n, t, h):
    """Lipschitz: sigma' is at most 2, s runs at n - 1 a unit of t, a coefficient moves at most sigma / 2."""
    assume(t + h <= 1)
    moved = (gcc(n, t + h, variant) - gcc(n, t, variant)).abs().max().item()
    assert moved <= (n - 1) * h + 1e-12


def test_another_variant_is_refused():
    with pytest.raises(ConfigError, match=r"variant of GCC 'cosine'.*\(known: linear, progress, thesis\)"):
        gcc(4, 0.5, "cosine")


@variants
def test_gradual_cascade_uses_it(variant):
    """Identity input: the rows of a mixed batch are the coefficients of the groups."""
    n, finetune = 4, 0.2
    mix = GradualCascade(n, variant=variant, num_classes=12, finetune=finetune)
    for progress in (0.0, 0.1, 0.3, 0.5, 0.7):
        mix.advance(progress)
        t = progress / (1 - finetune)
        c = [v for v in printed(n, t, variant) if v > 1e-9]
        size = 12 // len(c)
        mixed, target = mix(torch.eye(12), torch.arange(12))
        assert mixed.shape == (size, 12)
        expected = torch.zeros(size, 12)
        for i in range(size):
            for j, weight in enumerate(c):
                expected[i, i + j * size] = weight
        torch.testing.assert_close(mixed, expected)
        torch.testing.assert_close(target, expected)


@pytest.mark.parametrize("progress", [0.8, 0.9, 1.0])
def test_gradual_cascade_ends_on_clean_samples(progress):
    mix = GradualCascade(4, num_classes=3, finetune=0.2)
    mix.advance(progress)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mix(x, torch.tensor([0, 1, 2, 0, 1]))[0], x)
    assert mix.current_k() == 1
