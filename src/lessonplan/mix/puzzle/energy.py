"""What a mask costs: saliency lost, unlikely shares, and borders between neighbouring blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def unary_cost(s1: Tensor, s2: Tensor, lam: Tensor, eta: float, labels: int) -> Tensor:
    """Cost of each label in each block: the saliency it hides and ``-eta / n^2`` times its log prior.

    Label l stands for the share ``z = l / (labels - 1)`` of the first image and costs
    ``z s2 + (1 - z) s1 - (eta / n^2) log Binom(l; labels - 1, lam)`` (Puzzle Mix, eq. 4 and section 3.2).

    Args:
        s1: saliency of the first images' blocks ``(N, n, n)``, summing to 1 each.
        s2: that of the second images'.
        lam: expected share of the first image, a scalar in [0, 1].
        eta: weight of the prior, 0 or more.
        labels: number of labels, 2 or more.

    Returns:
        Tensor ``(labels, N, n, n)``.
    """
    m = labels - 1
    level = torch.arange(labels, device=s1.device, dtype=s1.dtype)
    lam = lam.to(s1.device, s1.dtype, non_blocking=True).clamp(1e-6, 1 - 1e-6)
    ways = torch.tensor([math.log(math.comb(m, k)) for k in range(labels)], dtype=s1.dtype, device="cpu")
    ways = ways.to(s1.device, non_blocking=True)
    prior = ways + level * lam.log() + (m - level) * torch.log1p(-lam)
    z = (level / m).view(-1, 1, 1, 1)
    penalty = (eta / (s1.shape[-2] * s1.shape[-1])) * prior
    return z * s2 + (1 - z) * s1 - penalty.view(-1, 1, 1, 1)


def border_weights(x1: Tensor, x2: Tensor, n: int, beta: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Weights w of ``w (z_i - z_j)^2`` between neighbouring blocks: ``beta / (16 n) (1 + gamma delta)``.

    ``delta`` is by how much a change of image at the border i | j jars more than the images' own borders do:
    half of ``|x1_i - x2_j| + |x2_i - x1_j| - |x1_i - x1_j| - |x2_i - x2_j|``, averaged over the channels and
    the pixels on both sides of the border. Weights are at least 0.

    Args:
        x1, x2: images ``(N, C, H, W)`` with colours in [0, 1]; n divides H and W.
        n: blocks along each side.
        beta: smoothness of the labels.
        gamma: how much the colours count.

    Returns:
        ``(N, n, n - 1)`` between horizontal and ``(N, n - 1, n)`` between vertical neighbours.
    """
    weight = beta / (16 * n)
    across = _jarring(x1, x2, n)
    down = _jarring(x1.mT, x2.mT, n).mT
    return (weight * (1 + gamma * across)).clamp_(min=0), (weight * (1 + gamma * down)).clamp_(min=0)


def border_costs(x1: Tensor, x2: Tensor, n: int, beta: float, gamma: float) -> tuple[Tensor, Tensor]:
    """What each block pays at its borders for showing the first image, and for showing the second.

    With the change of image that ``border_weights`` charges for, this is the whole smoothness of the data, as the
    authors' code has it: ``beta gamma / (16 n)`` times the difference of colours that is seen at each border. Of a
    border i | j block i pays half of ``|x1_i - x2_j| + |x1_i - x1_j|`` for the first image, and so on; for labels
    0 and 1 the sum is that difference but for a constant, between them it is linear.

    Args:
        x1, x2, n, beta, gamma: as for ``border_weights``.

    Returns:
        ``(N, n, n)`` for the first and the second image.
    """
    weight = beta * gamma / (32 * n)
    first, second = (torch.zeros(len(x1), n, n, dtype=torch.float32, device=x1.device) for _ in range(2))
    for turn in (False, True):
        one, other, a, b = (t.mT if turn else t for t in (x1, x2, first, second))
        stay1, leave1 = _seen(one, one, n), _seen(one, other, n)
        stay2, leave2 = _seen(other, other, n), _seen(other, one, n)
        a[..., :-1] += weight * (leave1 + stay1)
        a[..., 1:] += weight * (leave2 + stay1)
        b[..., :-1] += weight * (leave2 + stay2)
        b[..., 1:] += weight * (leave1 + stay2)
    return first, second


def mask_energy(unary: Tensor, across: Tensor, down: Tensor, labels: Tensor) -> Tensor:
    """The energy of masks: ``sum_i u_i(l_i) + sum_ij w_ij (z_i - z_j)^2``.

    Args:
        unary: ``(L, N, h, w)``.
        across: ``(N, h, w - 1)``.
        down: ``(N, h - 1, w)``.
        labels: ``(N, h, w)`` int64 in [0, L).

    Returns:
        Tensor ``(N,)``.

    >>> unary = torch.tensor([[[[0.0, 3.0]]], [[[2.0, 0.0]]]])  # two labels, one image of 1 x 2 blocks
    >>> weights = torch.full((1, 1, 1), 0.5), torch.zeros(1, 0, 2)
    >>> mask_energy(unary, *weights, torch.tensor([[[0, 1]]]))
    tensor([0.5000])
    """
    z = labels.to(unary.dtype) / (len(unary) - 1)
    own = unary.gather(0, labels.unsqueeze(0)).squeeze(0)
    between = (across * z.diff(dim=2).square()).sum((1, 2)) + (down * z.diff(dim=1).square()).sum((1, 2))
    return own.sum((1, 2)) + between


def colours(x: Tensor, span: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` in units of ``span`` ``(1, C, 1, 1)``, black to white; no variation stays 0."""
    return torch.where(span > 0, x / span, torch.zeros_like(x))


def _seen(left: Tensor, right: Tensor, n: int) -> Tensor:
    """Mean difference of colours where blocks of ``left`` end and those of ``right`` begin, ``(N, n, n - 1)``."""
    block = left.shape[-1] // n
    apart = (left[..., block - 1 : -1 : block] - right[..., block::block]).abs()
    rows: Tensor = apart.mean(1).unflatten(1, (n, -1)).mean(2)
    return rows


def _jarring(x1: Tensor, x2: Tensor, n: int) -> Tensor:
    """``delta`` of horizontal neighbours, ``(N, n, n - 1)``."""
    block = x1.shape[-1] // n
    ends = [x[..., block - 1 : -1 : block] for x in (x1, x2)]
    starts = [x[..., block::block] for x in (x1, x2)]
    change = (ends[0] - starts[1]).abs() + (ends[1] - starts[0]).abs()
    change -= (ends[0] - starts[0]).abs() + (ends[1] - starts[1]).abs()
    rows: Tensor = change.mean(1).unflatten(1, (n, -1)).mean(2)
    return 0.5 * rows
