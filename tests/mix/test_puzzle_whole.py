"""Puzzle Mix' other objectives, each against a loop over all masks or all moves."""

from __future__ import annotations

import itertools

import pytest
import torch

from lessonplan.errors import ConfigError
from lessonplan.mix import PuzzleMix, parse_mix
from lessonplan.mix.puzzle import puzzle
from lessonplan.mix.puzzle.assemble import Weights
from lessonplan.mix.puzzle.energy import border_costs, border_weights, mask_energy, unary_cost
from lessonplan.mix.puzzle.saliency import block_saliency
from lessonplan.mix.puzzle.transport import transport_plan, whole_plan


def images(count: int, side: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x1, x2 = torch.rand(2, count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return x1, x2


def seen_at_borders(x1: torch.Tensor, x2: torch.Tensor, n: int, labels: torch.Tensor) -> float:
    """Mean differences of colours over every border of one image's mask of zeros and ones, with loops."""
    size, shown = x1.shape[-1] // n, lambda r, c: x1 if labels[r, c] else x2
    total = 0.0
    for r, c in itertools.product(range(n), range(n)):
        if c + 1 < n:
            rows, edge = slice(r * size, (r + 1) * size), (c + 1) * size
            total += float((shown(r, c)[:, rows, edge - 1] - shown(r, c + 1)[:, rows, edge]).abs().mean())
        if r + 1 < n:
            columns, edge = slice(c * size, (c + 1) * size), (r + 1) * size
            total += float((shown(r, c)[:, edge - 1, columns] - shown(r + 1, c)[:, edge, columns]).abs().mean())
    return total


def test_whole_borders_are_what_is_seen_but_for_a_constant():
    """Over all masks of 3 x 3: ``beta / 16 n (labels' smoothness + gamma * what is seen)``."""
    n, beta, gamma = 3, 1.2, 0.5
    x1, x2 = images(1, 12)
    weights = border_weights(x1, x2, n, beta, gamma)
    assert min(float(w.min()) for w in weights) > 0  # nothing was clamped
    unary = torch.stack(border_costs(x1, x2, n, beta, gamma)[::-1])
    plain = border_weights(x1, x2, n, beta, 0.0)
    apart = []
    for mask in itertools.product((0, 1), repeat=n * n):
        labels = torch.tensor(mask).view(1, n, n)
        ours = mask_energy(unary, *weights, labels)
        smooth = mask_energy(torch.zeros_like(unary), *plain, labels)
        expected = smooth + beta * gamma / (16 * n) * seen_at_borders(x1[0], x2[0], n, labels[0])
        apart.append(float(ours - expected))
    assert max(apart) - min(apart) < 1e-6


@pytest.mark.parametrize("labels", [2, 3])
def test_the_mask_is_the_best_of_all(labels):
    """The whole objective of the mask, term by term, over every mask of 3 x 3."""
    n, weights = 3, Weights(beta=6.0, gamma=4.0)
    (x1, x2), lam = images(6, 12, seed=1), torch.tensor(0.4)
    s1, s2 = (torch.rand(6, 12, 12, generator=torch.Generator().manual_seed(i)) for i in (2, 3))
    span = torch.ones(1, 3, 1, 1)
    found = puzzle(
        (x1, x2), (s1, s2), lam, n, labels=labels, weights=weights, transport=False, span=span, borders="whole"
    )
    first, second = border_costs(x1, x2, n, weights.beta, weights.gamma)
    unary = unary_cost(block_saliency(s1, n), block_saliency(s2, n), lam, weights.eta, labels)
    level = torch.arange(labels).view(-1, 1, 1, 1) / (labels - 1)
    unary = unary + level * first + (1 - level) * second
    across, down = border_weights(x1, x2, n, weights.beta, weights.gamma)
    every = torch.tensor(list(itertools.product(range(labels), repeat=n * n))).view(-1, n, n)
    chosen = (found.mask[:, ::4, ::4] * (labels - 1)).round().long()
    plain = puzzle((x1, x2), (s1, s2), lam, n, labels=labels, weights=weights, transport=False, span=span)
    assert not torch.equal(found.mask, plain.mask)
    for i in range(6):
        one = [t[:, i : i + 1] for t in (unary,)] + [t[i : i + 1] for t in (across, down)]
        energies = mask_energy(
            one[0].expand(-1, len(every), -1, -1), *(t.expand(len(every), -1, -1) for t in one[1:]), every
        )
        assert mask_energy(*one, chosen[i : i + 1]) <= energies.min() + 1e-5


def objective(saliency, mask, xi, plans):
    """``xi <Pi, C> - |z Pi' s|_1`` of one image's plans ``(P, T)``."""
    height, width = saliency.shape
    place = torch.arange(height * width)
    away = (plans // width - place // width).square() + (plans % width - place % width).square()
    return (xi * away / (max(height, width) - 1) ** 2 - mask.flatten() * saliency.flatten()[plans]).sum(1)


@pytest.mark.parametrize("shape", [(2, 2), (2, 3)])
@pytest.mark.parametrize("xi", [0.02, 0.2])
def test_whole_moves_are_the_best_of_all_permutations(shape, xi):
    g, count = torch.Generator().manual_seed(2), 30
    saliency = torch.rand(count, *shape, generator=g) ** 4
    saliency /= saliency.sum((1, 2), keepdim=True)
    mask = torch.randint(3, (count, *shape), generator=g) / 2
    every = torch.tensor(list(itertools.permutations(range(mask[0].numel()))))
    found, shown = whole_plan(saliency, mask, xi), transport_plan(saliency, mask, xi)
    worse = 0
    for i in range(count):
        best = objective(saliency[i], mask[i], xi, every).min()
        assert objective(saliency[i], mask[i], xi, found[i : i + 1])[0] == pytest.approx(float(best), abs=1e-6)
        worse += bool(objective(saliency[i], mask[i], xi, shown[i : i + 1])[0] > best + 1e-6)
    assert worse > 0  # the rounds of asking have another objective


def test_the_text_says_both_and_defaults_stay_out_of_the_identity():
    mix = parse_mix("puzzle:borders=whole,moves=whole")
    assert mix.config() == {"name": "puzzle", "borders": "whole", "moves": "whole"}
    assert PuzzleMix().config() == {"name": "puzzle"}
    for options in ({"borders": "all"}, {"moves": "all"}):
        with pytest.raises(ConfigError, match="give"):
            PuzzleMix(**options)


def test_moves_of_a_mix_keep_every_block():
    (x1, x2), s = images(3, 8, seed=4), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    moved = puzzle((x1, x2), (s[0], s[1]), torch.tensor(0.5), 4, weights=Weights(xi=0.01), moves="whole").moved
    assert not torch.equal(moved[0], x1)
    for before, after in zip((x1, x2), moved, strict=True):
        assert torch.equal(before.flatten(1).sort(1).values, after.flatten(1).sort(1).values)
