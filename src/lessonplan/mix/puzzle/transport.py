"""Moving salient blocks to where the mask shows them: deferred acceptance for a whole batch at once."""

from __future__ import annotations

from functools import lru_cache, partial

import torch
from torch import Tensor

from lessonplan.network.captured import Captured


@torch.no_grad()
def transport_plan(saliency: Tensor, mask: Tensor, xi: float) -> Tensor:
    """Where each place of the grid takes its block from.

    Moving block i to place j costs ``xi C_ij - s_i 1[z_j > 0]``, with C the squared distance in blocks over
    ``(n - 1)^2`` (Puzzle Mix, section 3.4). Every block asks for the place that is cheapest for it; of several
    that ask for one place the cheapest keeps it, until a cheaper one comes; the others ask for their next
    choice. Blocks for which no shown place is worth the way leave their place to whoever wants it. What is left
    after n rounds of asking stays where it is, or fills the free places in order. Places that the mask hides show
    nothing, so they are not asked for. An image whose plan costs more than leaving everything in place is left
    as it is.

    Args:
        saliency: of the blocks ``(N, n, n)``, not negative.
        mask: share of this image at each place ``(N, n, n)``.
        xi: cost of distance, 0 or more.

    Returns:
        ``(N, n * n)`` int64, a permutation of the blocks for each image: place i takes block ``plan[:, i]``.

    >>> saliency = torch.tensor([[[0.9, 0.05], [0.05, 0.0]]])
    >>> transport_plan(saliency, torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), xi=0.1)
    tensor([[1, 0, 2, 3]])
    """
    return _captured_plan(xi)(saliency, mask)


@lru_cache(maxsize=16)
def _captured_plan(xi: float) -> Captured:
    return Captured(partial(_plan, xi=xi))


def _plan(saliency: Tensor, mask: Tensor, xi: float) -> Tensor:
    count, height, width = saliency.shape
    places = height * width
    order, distance = _nearest(height, width, saliency.device)
    shown = (mask > 0).reshape(count, places).T.contiguous()
    value = saliency.reshape(count, places).T.contiguous()
    if value.device.type == "cpu":
        # Nobody goes farther than its saliency is worth. Elsewhere reading the number back would stall the queue.
        reach = max(1, int((xi * distance.amin(1) < value.max()).sum()))
        order, distance = order[:reach], distance[:reach]
    following = _next_shown(shown, order)
    block = torch.arange(places, device=saliency.device).unsqueeze(1).expand(places, count)
    column = torch.arange(count, device=saliency.device)
    nothing = len(order)
    choice = following[0].long()
    for _ in range(max(height, width)):
        wants, place, cost = _ask(choice, order, xi * distance, value)
        best = torch.full_like(value, torch.inf).scatter_reduce_(0, place, cost, "amin")
        refused = wants & (cost > best.gather(0, place))
        following_choice = following.view(-1)[((choice + 1).clamp_(max=nothing) * places + block) * count + column]
        choice = torch.where(refused, following_choice.long(), choice)
    wants, place, cost = _ask(choice, order, xi * distance, value)
    best = torch.full_like(value, torch.inf).scatter_reduce_(0, place, cost, "amin")
    served = wants & (cost == best.gather(0, place))
    # Ties are rare; the first block in order has the place.
    asking = torch.where(served, block, places)
    holder = torch.full_like(block, places).scatter_reduce_(0, place, asking, "amin")
    plan = _fill(holder).T.contiguous()
    stay = torch.arange(places, device=plan.device).expand_as(plan)
    worse = plan_cost(saliency, mask, xi, plan) > plan_cost(saliency, mask, xi, stay)
    return torch.where(worse.unsqueeze(1), stay, plan)


def whole_plan(saliency: Tensor, mask: Tensor, xi: float) -> Tensor:
    """The permutation that minimises ``xi <Pi, C> - |z Pi' s|_1``, the lecture's objective, exactly.

    Every move counts, to hidden places too, and a block is worth its saliency times the share that is shown of
    it. An assignment problem for each image, solved one by one on the CPU.

    Args, returns: as for ``transport_plan``.

    >>> whole_plan(torch.tensor([[[0.9, 0.05], [0.05, 0.0]]]), torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), xi=0.1)
    tensor([[1, 0, 2, 3]])
    """
    from scipy.optimize import linear_sum_assignment  # which takes its time to import

    count, height, width = saliency.shape
    order, distance = _nearest(height, width, torch.device("cpu"))
    moved = torch.empty_like(distance).scatter_(0, order, distance)  # [place, block], the same both ways
    value = saliency.detach().flatten(1).double().cpu()
    shown = mask.detach().flatten(1).double().cpu()
    costs = xi * moved.double() - shown.unsqueeze(2) * value.unsqueeze(1)
    plans = [torch.from_numpy(linear_sum_assignment(cost.numpy())[1]) for cost in costs]
    none = torch.empty(0, height * width, dtype=torch.int64, device="cpu")
    return torch.stack(plans).to(saliency.device) if count else none


def plan_cost(saliency: Tensor, mask: Tensor, xi: float, plan: Tensor) -> Tensor:
    """What plans cost, over the places that the mask shows: ``sum_j xi C - s`` of the block at j, ``(N,)``.

    Unlike ``<Pi, C>`` over the whole grid, moves to hidden places are free: what lies there is not seen.

    Args:
        saliency, mask, xi: as for ``transport_plan``.
        plan: ``(N, n * n)``, as ``transport_plan`` gives it.

    >>> grid = torch.tensor([[[0.75, 0.25]]])
    >>> plan_cost(grid, torch.tensor([[[0.0, 1.0]]]), 0.125, torch.tensor([[1, 0]]))
    tensor([-0.6250])
    """
    height, width = saliency.shape[-2:]
    place = torch.arange(height * width, device=plan.device)
    rows, columns = plan // width - place // width, plan % width - place % width
    distance = (rows.square() + columns.square()) / max(max(height, width) - 1, 1) ** 2
    cost = xi * distance - saliency.flatten(1).gather(1, plan)
    return (cost * (mask > 0).flatten(1)).sum(1)


def _ask(choice: Tensor, order: Tensor, distance: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether a block asks for a place, for which one, and what that costs (infinite if it does not ask)."""
    known, places = order.shape
    rank = choice.clamp(max=known - 1) * places + torch.arange(places, device=order.device).unsqueeze(1)
    place = order.view(-1)[rank]
    cost = distance.view(-1)[rank] - value
    wants = (choice < known) & (cost < 0)
    return wants, place, cost.masked_fill(~wants, torch.inf)


def _next_shown(shown: Tensor, order: Tensor) -> Tensor:
    """For each block the next shown place from position k of its order on, ``(K + 1, T, N)``; K is none."""
    known = len(order)
    if shown.device.type == "cpu":  # where a round is cheap, and there are few
        table = torch.empty(known + 1, *shown.shape, dtype=torch.int16, device="cpu")
        table[known] = known
        for k in range(known - 1, -1, -1):
            table[k] = torch.where(shown[order[k]], k, table[k + 1])
        return table
    return _next_shown_at_once(shown, order)


def _next_shown_at_once(shown: Tensor, order: Tensor) -> Tensor:
    """The same in a handful of kernels: the smallest position from the last one back."""
    known = len(order)
    rank = torch.arange(known, dtype=torch.int16, device=shown.device).view(-1, 1, 1)
    own = torch.full((known + 1, *shown.shape), known, dtype=torch.int16, device=shown.device)
    torch.where(shown[order], rank, own[:known], out=own[:known])
    return own.flip(0).cummin(0).values.flip(0)


def _fill(holder: Tensor) -> Tensor:
    """Complete a partial assignment ``(T, N)`` of blocks to places, in which T stands for none."""
    places, _ = holder.shape
    block = torch.arange(places, device=holder.device).unsqueeze(1)
    taken = torch.zeros(places + 1, holder.shape[1], dtype=torch.bool, device=holder.device)
    taken.scatter_(0, holder, True)
    stays = (holder == places) & ~taken[:places]
    holder = torch.where(stays, block, holder)
    taken.scatter_(0, holder, True)
    # The k-th free place takes the k-th free block, counted row by row.
    free_places = (holder == places).int().argsort(dim=0, descending=True, stable=True)
    free_blocks = taken[:places].int().argsort(dim=0, stable=True)
    matched = torch.empty_like(holder).scatter_(0, free_places, free_blocks)
    return torch.where(holder == places, matched, holder)


@lru_cache(maxsize=16)
def _nearest(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each block the places in order of distance ``(T, T)``, and their squared distance over (n - 1)^2."""
    row = torch.arange(height, device="cpu").repeat_interleave(width)
    column = torch.arange(width, device="cpu").repeat(height)
    squared = (row.unsqueeze(1) - row).square() + (column.unsqueeze(1) - column).square()
    ordered, order = squared.sort(dim=0, stable=True)
    distance = ordered.float() / max(max(height, width) - 1, 1) ** 2
    return order.to(device, non_blocking=True), distance.to(device, non_blocking=True)
