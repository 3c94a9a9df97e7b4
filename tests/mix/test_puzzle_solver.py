"""Masks of Puzzle Mix against exact solutions: all labellings, dynamic programming, minimum cuts, swaps."""

from __future__ import annotations

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessonplan.mix.puzzle.energy import border_weights, mask_energy, unary_cost
from lessonplan.mix.puzzle.saliency import block_saliency
from lessonplan.mix.puzzle.solver import solve_mask


def _graph_cut():
    path = Path(__file__).parents[2] / "benchmarks" / "graph_cut.py"
    spec = importlib.util.spec_from_file_location("graph_cut_for_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instances(count, n, labels, seed=0, beta=1.2):
    """Energies as Puzzle Mix meets them: smooth saliency of two images, shares and colours of all kinds."""
    g = torch.Generator().manual_seed(seed)
    size = 4 * n
    raw = torch.rand(2, count, 1, size, size, generator=g) ** 4
    smooth = torch.nn.functional.avg_pool2d(raw.flatten(0, 1), 5, 1, 2).unflatten(0, (2, count)).squeeze(2)
    s1, s2 = (block_saliency(s, n) for s in smooth)
    lam = torch.rand((), generator=g)
    images = torch.rand(2, count, 3, size, size, generator=g)
    weights = border_weights(images[0], images[1], n, beta, 0.5)
    return unary_cost(s1, s2, lam, 0.2, labels), *weights


def brute_force(unary, across, down):
    """The least energy over every labelling, computed with loops over edges."""
    u, a, d = (t.double().numpy() for t in (unary, across, down))
    count, batch, height, width = u.shape
    every = np.array(list(itertools.product(range(count), repeat=height * width))).reshape(-1, height, width)
    z = every / (count - 1)
    least = []
    for i in range(batch):
        total = np.zeros(len(every))
        for r, c in itertools.product(range(height), range(width)):
            total += u[every[:, r, c], i, r, c]
            if c + 1 < width:
                total += a[i, r, c] * (z[:, r, c] - z[:, r, c + 1]) ** 2
            if r + 1 < height:
                total += d[i, r, c] * (z[:, r, c] - z[:, r + 1, c]) ** 2
        least.append(total.min())
    return torch.tensor(least)


def row_programming(unary, across, down):
    """The least energy by dynamic programming from row to row, exact for any labels."""
    u, a, d = (t.double().numpy() for t in (unary, across, down))
    count, batch, height, width = u.shape
    rows = np.array(list(itertools.product(range(count), repeat=width)))
    z = rows / (count - 1)
    least = []
    for i in range(batch):
        best = None
        for r in range(height):
            own = u[rows, i, r, np.arange(width)].sum(1) + (a[i, r] * np.diff(z, axis=1) ** 2).sum(1)
            if best is None:
                best = own
            else:
                step = sum(d[i, r - 1, c] * (z[:, None, c] - z[None, :, c]) ** 2 for c in range(width))
                best = own + (best[:, None] + step).min(0)
        least.append(best.min())
    return torch.tensor(least)


def reached(unary, across, down):
    labels = solve_mask(unary, across, down)
    return mask_energy(unary.double(), across.double(), down.double(), labels)


@pytest.mark.parametrize("labels", [2, 3])
def test_3x3_against_all_labellings(labels):
    parts = [instances(40, 3, labels, seed) for seed in range(3)]
    gap = torch.cat([(reached(*p) - brute_force(*p)) * 9 for p in parts])
    assert gap.min() > -1e-6
    assert (gap < 1e-5).double().mean() >= 0.95
    assert gap.max() < 0.01


@pytest.mark.parametrize(("n", "labels"), [(4, 2), (4, 3), (4, 4), (3, 5), (5, 3)])
def test_small_grids_against_dynamic_programming(n, labels):
    parts = [instances(30, n, labels, seed) for seed in range(2)]
    gap = torch.cat([(reached(*p) - row_programming(*p)) * n**2 for p in parts])
    assert gap.min() > -1e-6
    assert (gap < 1e-5).double().mean() >= 0.95
    assert gap.max() < 0.05


def test_dynamic_programming_agrees_with_all_labellings():
    problem = instances(10, 3, 3)
    torch.testing.assert_close(row_programming(*problem), brute_force(*problem))


def test_16x16_two_labels_against_an_exact_cut():
    cut = _graph_cut()
    unary, across, down = instances(12, 16, 2)
    exact = []
    for i in range(12):
        u, a, d = unary[:, i].double().numpy(), across[i].double().numpy(), down[i].double().numpy()
        weight = np.concatenate([a.ravel(), d.ravel()])
        exact.append(cut.minimum_cut(u[0].ravel(), u[1].ravel(), cut.grid_edges(16, 16), weight).reshape(16, 16))
    best = mask_energy(unary.double(), across.double(), down.double(), torch.tensor(np.array(exact)).long())
    gap = (reached(unary, across, down) - best) * 256
    assert gap.min() > -1e-3  # the cut counts in millionths of the largest cost
    assert gap.mean() < 0.02  # of an energy of about 280


@pytest.mark.parametrize("n", [8, 16])
def test_no_higher_than_alpha_beta_swap(n):
    cut = _graph_cut()
    unary, across, down = instances(8, n, 3, seed=n)
    u, a, d = (t.double().numpy() for t in (unary, across, down))
    swapped = torch.tensor(np.array([cut.alpha_beta_swap(u[:, i], a[i], d[i]) for i in range(8)]))
    published = mask_energy(unary.double(), across.double(), down.double(), swapped)
    assert reached(unary, across, down).mean() <= published.mean() + 1e-6


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 3), st.integers(1, 3))
def test_any_convex_costs_on_any_grid(seed, labels, height, width):
    """Rectangular grids and weights of any size, free edges included."""
    g = torch.Generator().manual_seed(seed)
    slopes = torch.randn(labels - 1, 4, height, width, generator=g).sort(0).values
    unary = torch.cat([torch.zeros(1, 4, height, width), slopes.cumsum(0)])
    across = torch.rand(4, height, width - 1, generator=g).sub(0.3).clamp(min=0) * 3
    down = torch.rand(4, height - 1, width, generator=g).sub(0.3).clamp(min=0) * 3
    gap = reached(unary, across, down) - row_programming(unary, across, down)
    assert gap.min() > -1e-5
    assert gap.max() < 0.1


def test_a_batch_is_its_samples():
    unary, across, down = instances(6, 8, 3)
    together = solve_mask(unary, across, down)
    for i in range(6):
        alone = solve_mask(unary[:, i : i + 1], across[i : i + 1], down[i : i + 1])
        assert torch.equal(together[i : i + 1], alone)


def test_without_smoothness_each_block_takes_its_cheapest_label():
    unary, across, down = instances(5, 8, 3, beta=0.0)
    assert torch.equal(solve_mask(unary, across, down), unary.argmin(0))


def test_strong_smoothness_gives_one_label():
    labels = solve_mask(*instances(5, 4, 3, beta=200.0))
    assert (labels.flatten(1).amax(1) == labels.flatten(1).amin(1)).all()


def test_unary_is_saliency_hidden_and_a_binomial_prior():
    s1, s2 = torch.tensor([[[0.7, 0.3]]]), torch.tensor([[[0.4, 0.6]]])
    cost = unary_cost(s1, s2, torch.tensor(0.3), eta=0.2, labels=3)
    for level, ways in enumerate((1, 2, 1)):
        z = level / 2
        prior = math.log(ways * 0.3**level * 0.7 ** (2 - level))
        expected = z * s2 + (1 - z) * s1 - 0.2 / 2 * prior
        torch.testing.assert_close(cost[level], expected)


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_a_certain_share_has_a_price_and_is_taken(lam):
    """Where one image is all that is expected: the logarithm of 0 is kept off."""
    alike = torch.full((1, 2, 2), 0.25)
    cost = unary_cost(alike, alike, torch.tensor(lam), eta=1.0, labels=3)
    assert cost.isfinite().all()
    assert (cost.argmin(0) == 2 * lam).all()


def test_border_weights_by_hand():
    """2 x 2 pixels, one a block: delta from the four colours at each border."""
    x1 = torch.tensor([[[[0.0, 0.0], [0.5, 1.0]]]])
    x2 = torch.tensor([[[[1.0, 1.0], [0.25, 0.0]]]])
    across, down = border_weights(x1, x2, 2, beta=3.2, gamma=0.5)
    base = 3.2 / 32

    def weight(a, b, c, d):  # x1 here, x1 there, x2 here, x2 there
        return base * (1 + 0.5 * 0.5 * (abs(a - d) + abs(c - b) - abs(a - b) - abs(c - d)))

    torch.testing.assert_close(across[0], torch.tensor([[weight(0, 0, 1, 1)], [weight(0.5, 1, 0.25, 0)]]))
    torch.testing.assert_close(down[0], torch.tensor([[weight(0, 0.5, 1, 0.25), weight(0, 1, 1, 0)]]))


def test_border_weights_average_channels_and_border_pixels():
    x1 = torch.zeros(1, 2, 4, 4)
    x2 = torch.zeros(1, 2, 4, 4)
    x2[0, 0, 0] = 1.0  # one channel of one of two rows along the upper border: delta = 2 / 2 / 4
    across, _ = border_weights(x1, x2, 2, beta=32.0, gamma=1.0)
    torch.testing.assert_close(across[0], torch.tensor([[1.25], [1.0]]))
