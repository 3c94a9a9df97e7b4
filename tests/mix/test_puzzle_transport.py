"""Moves of blocks against the optimal assignment, and what must hold for any plan."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from lessonplan.mix.puzzle.blocks import enlarge, move_blocks
from lessonplan.mix.puzzle.saliency import block_saliency
from lessonplan.mix.puzzle.transport import plan_cost, transport_plan


def cases(count, n, seed=0):
    g = torch.Generator().manual_seed(seed)
    saliency = block_saliency(torch.rand(count, n, n, generator=g) ** 4, n)
    return saliency, (torch.rand(count, n, n, generator=g) < 0.4).float()


def cost_matrix(saliency, mask, xi):
    """``[block, place]`` with loops."""
    n = len(saliency)
    cost = torch.zeros(n * n, n * n, dtype=torch.float64)
    for i in range(n * n):
        for j in range(n * n):
            away = (i // n - j // n) ** 2 + (i % n - j % n) ** 2
            shown = float(mask[j // n, j % n] > 0)
            cost[i, j] = (xi * away / (n - 1) ** 2 - float(saliency[i // n, i % n])) * shown
    return cost


def test_plan_cost_is_the_sum_of_the_matrix():
    saliency, mask = cases(3, 4)
    plans = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(i)) for i in range(3)])
    found = plan_cost(saliency, mask, 0.3, plans)
    for i in range(3):
        expected = cost_matrix(saliency[i], mask[i], 0.3)[plans[i], torch.arange(16)].sum()
        assert float(found[i]) == pytest.approx(float(expected), abs=1e-6)


def _graph_cut():
    path = Path(__file__).parents[2] / "benchmarks" / "graph_cut.py"
    spec = importlib.util.spec_from_file_location("graph_cut_for_transport", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("n", "xi"), [(2, 0.1), (4, 0.05), (4, 0.2), (4, 0.8), (8, 0.05), (8, 0.8)])
def test_gap_to_the_best_assignment(n, xi):
    """On random masks moving gains 92% or more of what it can, and no less than the published plan."""
    count = 40 if n < 8 else 10
    saliency, mask = cases(count, n)
    found = plan_cost(saliency, mask, xi, transport_plan(saliency, mask, xi)).double()
    stay = plan_cost(saliency, mask, xi, torch.arange(n * n).expand(count, -1)).double()
    dense = _graph_cut().dense_transport(saliency, mask, xi)
    best, published = [], []
    for i in range(count):
        cost = cost_matrix(saliency[i], mask[i], xi)
        rows, columns = linear_sum_assignment(cost.numpy())
        best.append(cost[rows, columns].sum())
        published.append((cost * dense[i]).sum())
    best, published = torch.stack(best), torch.stack(published)
    assert (found >= best - 1e-6).all()
    assert (found <= stay + 1e-6).all()
    assert (stay - best).mean() > 0.002
    assert (stay - found).mean() >= 0.92 * (stay - best).mean()
    assert found.mean() <= published.mean() + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 3, 5, 8]), st.sampled_from([0.0, 0.01, 0.8, 10.0]))
def test_a_plan_is_a_permutation(seed, n, xi):
    saliency, mask = cases(5, n, seed)
    plan = transport_plan(saliency, mask, xi)
    assert torch.equal(plan.sort(1).values, torch.arange(n * n).expand(5, -1))


def test_ties_are_settled():
    plan = transport_plan(torch.full((2, 4, 4), 1 / 16), torch.eye(4).expand(2, -1, -1), 0.0)
    assert torch.equal(plan.sort(1).values, torch.arange(16).expand(2, -1))


def test_dear_moves_are_not_made():
    saliency, mask = cases(10, 8)
    assert torch.equal(transport_plan(saliency, mask, 1000.0), torch.arange(64).expand(10, -1))


def test_a_hidden_peak_is_brought_into_sight():
    saliency = torch.full((1, 4, 4), 0.01)
    saliency[0, 0, 0] = 0.85
    mask = torch.zeros(1, 4, 4)
    mask[0, 0, 2] = mask[0, 3, 3] = 1.0
    assert transport_plan(saliency, mask, 0.1)[0, 2] == 0


def test_a_batch_is_its_images():
    saliency, mask = cases(6, 8, 3)
    together = transport_plan(saliency, mask, 0.05)
    alone = [transport_plan(saliency[i : i + 1], mask[i : i + 1], 0.05) for i in range(6)]
    assert torch.equal(together, torch.cat(alone))


def test_blocks_move_as_a_permutation_matrix_says():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 6, 8, generator=g)
    plan = torch.stack([torch.randperm(4, generator=g) for _ in range(2)])
    moved = move_blocks(x, plan, 2)
    for image, place in ((i, p) for i in range(2) for p in range(4)):
        block = int(plan[image, place])
        there = moved[image, :, place // 2 * 3 :, place % 2 * 4 :][:, :3, :4]
        here = x[image, :, block // 2 * 3 :, block % 2 * 4 :][:, :3, :4]
        assert torch.equal(there, here)


def test_saliency_moves_with_its_blocks():
    saliency, mask = cases(4, 4)
    plan = transport_plan(saliency, mask, 0.05)
    pixels = enlarge(saliency, 8, 8).unsqueeze(1)
    again = block_saliency(move_blocks(pixels, plan, 4).squeeze(1), 4)
    torch.testing.assert_close(again.flatten(1), saliency.flatten(1).gather(1, plan))
