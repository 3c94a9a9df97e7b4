"""Puzzle Mix of given pairs with given saliency: nothing is drawn here, and no network is asked."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lessonplan.mix.puzzle.blocks import enlarge, move_blocks, pad_to_grid
from lessonplan.mix.puzzle.energy import border_costs, border_weights, colours, unary_cost
from lessonplan.mix.puzzle.saliency import block_saliency
from lessonplan.mix.puzzle.solver import solve_mask
from lessonplan.mix.puzzle.transport import transport_plan, whole_plan

Borders = Literal["change", "whole"]
Moves = Literal["shown", "whole"]


class Weights(NamedTuple):
    """The weights of the terms of Puzzle Mix, with the values of its paper.

    ``eta``: of the prior of the mixing ratio; ``beta``: of the labels' smoothness; ``gamma``: of the colours'
    part in it; ``xi``: of the distance that blocks are moved.
    """

    eta: float = 0.2
    beta: float = 1.2
    gamma: float = 0.5
    xi: float = 0.8


class Puzzle(NamedTuple):
    """What came of a batch of pairs.

    ``mixed`` ``(N, C, H, W)``; ``share`` ``(N,)`` of the first image, the mean of ``mask`` ``(N, H, W)``;
    ``saliency`` of the first and the second images' blocks, ``(N, n, n)`` each; ``moved``: both images after
    transport; ``lost`` ``(N,)``: whether a sample had no finite saliency and was interpolated instead.
    """

    mixed: Tensor
    share: Tensor
    mask: Tensor
    saliency: tuple[Tensor, Tensor]
    moved: tuple[Tensor, Tensor]
    lost: Tensor


def puzzle(
    pair: tuple[Tensor, Tensor],
    saliency: tuple[Tensor, Tensor],
    lam: Tensor,
    n: int,
    *,
    labels: int = 3,
    weights: Weights | None = None,
    transport: bool = True,
    span: Tensor | None = None,
    borders: Borders = "change",
    moves: Moves = "shown",
) -> Puzzle:
    """``z Pi1 x1 + (1 - z) Pi2 x2`` with the mask and the transport that keep most saliency (Puzzle Mix, eq. 1).

    Args:
        pair: images x1 and x2, ``(N, C, H, W)`` each, floating point.
        saliency: theirs, ``(N, H, W)`` each, not negative; where it is not finite, a pair is interpolated.
        lam: expected share of x1, a scalar in [0, 1].
        n: blocks along each side, at most H and W.
        labels: values of the mask, 0 to 1 in equal steps.
        weights: of the terms; None is the paper's.
        transport: move blocks, or leave them where they are.
        span: from black to white, ``(1, C, 1, 1)``; None is each channel's range in x1.
        borders: of the colours at borders, "change" charges for by how much a change of image jars more than none;
            "whole" charges for all that is seen there (``border_costs``).
        moves: "shown" leaves moves to hidden places free (``transport_plan``), "whole" does not (``whole_plan``).
    """
    weights = weights or Weights()
    height, width = pair[0].shape[-2:]
    x1, x2 = (pad_to_grid(x, n) for x in pair)
    known = [pad_to_grid(s.unsqueeze(1), n, "constant").squeeze(1) for s in saliency]
    blocks = [block_saliency(s, n) for s in known]
    lost = ~torch.stack([s.isfinite().all(2).all(1) for s in blocks]).all(0)
    s1, s2 = (torch.where(lost.view(-1, 1, 1), 1.0 / n**2, s) for s in blocks)
    span = colour_span(pair[0]) if span is None else span
    unary = unary_cost(s1, s2, lam, weights.eta, labels)
    colour = colours(x1.float(), span), colours(x2.float(), span)
    across, down = border_weights(*colour, n, weights.beta, weights.gamma)
    if borders == "whole":
        level = torch.linspace(0, 1, labels, dtype=torch.float32, device=unary.device).view(-1, 1, 1, 1)
        first, second = border_costs(*colour, n, weights.beta, weights.gamma)
        unary = unary + torch.lerp(second, first, level)
    z = solve_mask(unary, across, down).float() / (labels - 1)
    z = torch.where(lost.view(-1, 1, 1), lam.to(z), z)
    if transport:
        plan = transport_plan if moves == "shown" else whole_plan
        plans = plan(torch.cat([s1, s2]), torch.cat([z, 1 - z]), weights.xi)
        stay = torch.arange(n**2, device=plans.device)
        plan1, plan2 = torch.where(lost.repeat(2).unsqueeze(1), stay, plans).chunk(2)
        x1, x2 = move_blocks(x1, plan1, n), move_blocks(x2, plan2, n)
    mask = enlarge(z, x1.shape[-2], x1.shape[-1])
    # Where the images were continued to fill the grid, the continuation is cut off again.
    mask, x1, x2 = (t[..., :height, :width] for t in (mask, x1, x2))
    mixed = torch.lerp(x2, x1, mask.unsqueeze(1).to(x1))
    return Puzzle(mixed, mask.mean((1, 2)), mask, (s1, s2), (x1, x2), lost)


def colour_span(x: Tensor) -> Tensor:
    """Each channel's range in a batch ``(N, C, H, W)``, as ``(1, C, 1, 1)`` float32."""
    low, high = x.amin((0, 2, 3), keepdim=True), x.amax((0, 2, 3), keepdim=True)
    return (high - low).float()
