"""The cheapest mask: a minimum cut for a whole batch of grids at once, by accelerated projected gradients.

With labels 0..m and ``z = l / m``, a block's label is the number of its m binary layers that are on, and

    m^2 (z_i - z_j)^2 = sum_ab |x_ia - x_jb| - l_i (m - l_i) - l_j (m - l_j)

so that the energy is a total variation between layers plus a cost of each block's label. That cost stays convex
(the correction is, and so is the cost of a label in Puzzle Mix), which lets every layer be paid for by itself:
layer a costs ``d_a = u(a) - u(a - 1)``, and the layers come out in order without being told.

The cut is found where the strongly convex problem ``min_v 1/2 |v + d|^2 + TV(v)`` is positive (Chambolle 2005,
Interfaces and Free Boundaries 7, prop. 2.2); its dual is a box, on which accelerated projected gradients
converge fast (Beck and Teboulle 2009). Every other threshold of v is a mask too; the cheapest of a few is taken,
which helps the last few images that have not converged.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lessonplan.mix.puzzle.energy import mask_energy
from lessonplan.network.captured import Captured

_MOMENTUM_DELAY = 10  # step i keeps i / (i + 10) of its direction; measured best among 3, 10, 20 and FISTA's
_THRESHOLDS = (0.0, -0.05, 0.05, -0.1, 0.1)  # in units of an image's mean |d|


@torch.no_grad()
def solve_mask(unary: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Labels that minimise ``mask_energy``; nothing is read back from the device.

    Args:
        unary: cost of each label in each block ``(L, N, h, w)``, L >= 2, convex in the label.
        across: weights between horizontal neighbours ``(N, h, w - 1)``, 0 or more.
        down: weights between vertical neighbours ``(N, h - 1, w)``, 0 or more.

    Returns:
        Tensor ``(N, h, w)`` int64 in [0, L).

    >>> unary = torch.tensor([[[[0.0, 1.0]]], [[[4.0, 0.0]]]])  # one image of 1 x 2 blocks
    >>> solve_mask(unary, torch.full((1, 1, 1), 0.5), torch.zeros(1, 0, 2))
    tensor([[[0, 1]]])
    >>> solve_mask(unary, torch.full((1, 1, 1), 2.0), torch.zeros(1, 0, 2))
    tensor([[[0, 0]]])
    """
    return _captured_solution(unary.float(), across.float(), down.float())


def _solution(unary: Tensor, across: Tensor, down: Tensor) -> Tensor:
    _, count, height, width = unary.shape
    costs, limits = _layers(unary, across, down)
    v = _total_variation(costs, limits, (count, width * count), steps_for(height, width))
    unit = costs.view(len(costs), -1, count).abs().mean((0, 1))
    v = v.view(len(costs), -1, count)
    best: tuple[Tensor, Tensor] | None = None
    for threshold in _THRESHOLDS:
        labels = (v > threshold * unit).sum(0).view(height, width, count).permute(2, 0, 1)
        energy = mask_energy(unary, across, down, labels)
        if best is not None:
            better = energy < best[1]
            labels = torch.where(better.view(-1, 1, 1), labels, best[0])
            energy = torch.where(better, energy, best[1])
        best = labels, energy
    assert best is not None
    return best[0].contiguous()


_captured_solution = Captured(_solution)


def steps_for(height: int, width: int) -> int:
    """Iterations for a grid: news travels one block a step, so larger grids take longer.

    >>> steps_for(16, 16), steps_for(2, 2)
    (192, 80)
    """
    return max(80, 12 * max(height, width))


def _layers(unary: Tensor, across: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Costs ``(m, T N)`` of the binary layers and limits ``(2, 1, 1, T N)`` of the edges to the right and below.

    The batch is the last dimension and a grid's T blocks are laid out in a row, so that a neighbour is a shift;
    edges that would leave the grid have weight 0.
    """
    m = len(unary) - 1
    _, count, height, width = unary.shape
    weights = unary.new_zeros(2, height, width, count)
    weights[0, :, :-1] = across.permute(1, 2, 0)
    weights[1, :-1] = down.permute(1, 2, 0)
    incident = weights.sum(0)
    incident[:, 1:] += weights[0, :, :-1]
    incident[1:] += weights[1, :-1]
    level = torch.arange(m + 1, device=unary.device, dtype=unary.dtype)
    correction = (level * (m - level) / m**2).view(-1, 1, 1, 1)
    costs = (unary.permute(0, 2, 3, 1) - correction * incident).diff(dim=0)
    return costs.reshape(m, -1), (weights / m**2).view(2, 1, 1, -1)


def _total_variation(costs: Tensor, limits: Tensor, shifts: tuple[int, int], steps: int) -> Tensor:
    """``argmin_v 1/2 |v + costs|^2 + sum_edges limit |v_ja - v_ib|``, ``(m, T N)``.

    ``flow[r, a, b, i]`` is the dual variable of the edge from layer b of block i to layer a of its neighbour in
    direction r. A block has four neighbours and each edge runs between m x m layers, which bounds the squared
    norm of the difference operator by 8 m.
    """
    m, blocks = costs.shape
    flow = costs.new_zeros(2, m, m, blocks)
    ahead, moved, change = flow.clone(), flow.clone(), flow.clone()
    v = torch.empty_like(costs)
    floor = -limits
    for step in range(steps):
        _primal(costs, ahead, shifts, v)
        for r, shift in enumerate(shifts):
            # Where the shift leaves the row of blocks, change stays 0 and so does the flow.
            torch.sub(v[:, None, shift:], v[None, :, :-shift], out=change[r, :, :, :-shift])
        torch.add(ahead, change, alpha=1 / (8 * m), out=moved).clamp_(floor, limits)
        torch.lerp(flow, moved, 1 + step / (step + _MOMENTUM_DELAY), out=ahead)
        flow, moved = moved, flow
    return _primal(costs, flow, shifts, v)


def _primal(costs: Tensor, flow: Tensor, shifts: tuple[int, int], out: Tensor) -> Tensor:
    """``v`` of the dual variables: what flows in raises a layer, what flows out lowers it."""
    leaving, arriving = flow.sum(1), flow.sum(2)
    torch.sub(leaving[0], costs, out=out).add_(leaving[1])
    for r, shift in enumerate(shifts):
        out[:, shift:] -= arriving[r, :, :-shift]
    return out
