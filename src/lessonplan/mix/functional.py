"""The formulas of mixing as pure functions: every coefficient is an argument, nothing is drawn here."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from lessonplan.errors import unknown
from lessonplan.rows import rows_of

GCCVariant = Literal["thesis", "progress", "linear"]


def soft_targets(y: Tensor, num_classes: int) -> Tensor:
    """One-hot targets of integer labels; soft targets pass through.

    Args:
        y: labels ``(N,)`` of an integer type, or targets ``(N, C)`` of a floating type.
        num_classes: C; unused for soft targets.

    Returns:
        Tensor ``(N, C)``, float32 for integer labels.

    >>> soft_targets(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if y.is_floating_point():
        return y
    target = torch.zeros(len(y), num_classes, dtype=torch.float32, device=y.device)
    return target.scatter_(1, y.long().unsqueeze(1), 1.0)


def wrap_to_groups(x: Tensor, k: int) -> Tensor:
    """Extend a batch from its own start until k divides its length.

    Args:
        x: batch ``(N, ...)``, 1 <= k <= N.
        k: number of groups.

    >>> wrap_to_groups(torch.arange(5), k=3)
    tensor([0, 1, 2, 3, 4, 0])
    """
    missing = -len(x) % k
    return torch.cat([x, x[:missing]]) if missing else x


def drop_to_groups(x: Tensor, k: int) -> Tensor:
    """Cut a batch's end until k divides its length (the thesis' floor(N/K) groups).

    >>> drop_to_groups(torch.arange(5), k=2)
    tensor([0, 1, 2, 3])
    """
    return x[: len(x) - len(x) % k]


def equal_weights(k: int) -> Tensor:
    """``(k,)`` float32, 1 / k each.

    >>> equal_weights(2)
    tensor([0.5000, 0.5000])
    """
    return torch.full((k,), 1.0 / k, dtype=torch.float32, device="cpu")


def group_mean(x: Tensor, k: int) -> Tensor:
    """Average k equal groups of a batch, position by position (thesis section 3.3).

    Args:
        x: batch ``(N, ...)``, floating point; k divides N.
        k: number of groups.

    Returns:
        Tensor ``(N / k, ...)``; element i is the mean of ``x[i], x[i + N/k], ...``.

    >>> group_mean(torch.tensor([0.0, 2.0, 4.0, 6.0]), k=2)
    tensor([2., 4.])
    """
    if x.device.type == "cpu" and x.dtype == torch.float32:
        # As a matrix product: half the time of a mean over the first axis, and steady on a busy machine.
        return group_sum(x, equal_weights(k))
    return _groups(x, k).mean(0)


def group_sum(x: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of k equal groups of a batch, position by position (thesis section 3.5).

    Args:
        x: batch ``(N, ...)``, floating point.
        weights: ``(k,)``, one weight a group, or ``(k, N / k)``, one a group and position.

    Returns:
        Tensor ``(N / k, ...)``: ``sum_j weights[j] * x[i + j * N/k]``.

    >>> group_sum(torch.tensor([0.0, 2.0, 4.0, 6.0]), torch.tensor([0.75, 0.25]))
    tensor([1., 3.])
    """
    groups = _groups(x, len(weights))
    weights = _there(weights, x)
    if weights.ndim == 1:
        # Autocast would do this in half precision: images and targets are data, not activations.
        with torch.autocast(x.device.type, enabled=False):
            total: Tensor = torch.tensordot(weights, groups, dims=1)
        return total
    return (groups * _trailing(weights, groups.ndim)).sum(0)


def group_label_mass(y: Tensor, weights: Tensor, num_classes: int) -> Tensor:
    """What ``group_sum`` gives for the one-hot rows of integer labels, without making them.

    Args:
        y: integer labels ``(N,)`` in [0, num_classes).
        weights: ``(k,)`` or ``(k, N / k)``, as in ``group_sum``.
        num_classes: C.

    Returns:
        Tensor ``(N / k, C)``, float32.

    >>> group_label_mass(torch.tensor([0, 1, 1, 1]), torch.tensor([0.75, 0.25]), 2)
    tensor([[0.7500, 0.2500],
            [0.0000, 1.0000]])
    """
    members = _groups(y.long(), len(weights)).T
    share = weights.to(y.device, torch.float32, non_blocking=True)
    share = (share.unsqueeze(1) if share.ndim == 1 else share).expand(members.shape[1], len(members)).T
    target = torch.zeros(len(members), num_classes, dtype=torch.float32, device=y.device)
    return target.scatter_add_(1, members, share)


def pair_label_mass(y: Tensor, partner: Tensor, lam: Tensor, num_classes: int) -> Tensor:
    """What ``interpolate`` gives for the one-hot rows of integer labels, bit for bit, without making them.

    Args:
        y: integer labels ``(N,)`` in [0, num_classes).
        partner: the partners' labels ``(N,)``.
        lam: scalar tensor, or ``(N,)``.
        num_classes: C.

    Returns:
        Tensor ``(N, C)``, float32.

    >>> pair_label_mass(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor(0.75), 2)
    tensor([[0.7500, 0.2500],
            [0.0000, 1.0000]])
    """
    lam = lam.to(y.device, torch.float32, non_blocking=True).expand(len(y))
    target = torch.zeros(len(y), num_classes, dtype=torch.float32, device=y.device)
    target.scatter_(1, y.long().unsqueeze(1), lam.unsqueeze(1))
    rest = torch.where(y == partner, 1.0, 1.0 - lam)
    return target.scatter_(1, partner.long().unsqueeze(1), rest.unsqueeze(1))


def group_union(target: Tensor, k: int) -> Tensor:
    """Element-wise maximum of k equal groups: the label rule of multi-label data.

    >>> group_union(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), k=2)
    tensor([[1., 1.]])
    """
    return _groups(target, k).amax(0)


def first_group(y: Tensor, k: int) -> Tensor:
    """The first of k equal groups of a batch, as new memory: the label rule of sums with unmixed targets.

    >>> first_group(torch.tensor([3, 1, 0, 2]), k=2)
    tensor([3, 1])
    """
    return _groups(y, k)[0].clone()


def permuted_sum(x: Tensor, permutations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of a batch and its permutations; the batch keeps its length.

    Args:
        x: batch ``(N, ...)``, floating point.
        permutations: ``(k - 1, N)`` integer; the batch itself is the first summand.
        weights: ``(k,)`` or ``(k, N)``.

    >>> permuted_sum(torch.tensor([0.0, 4.0]), torch.tensor([[1, 0]]), torch.tensor([0.75, 0.25]))
    tensor([1., 3.])
    """
    weights = _there(weights, x)
    weights = _trailing(weights if weights.ndim == 2 else weights.unsqueeze(1), x.ndim + 1)
    total = x * weights[0]
    for permutation, weight in zip(permutations, weights[1:], strict=True):
        total.addcmul_(rows_of(x, permutation), weight.expand_as(x))
    return total


def interpolate(x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """``lam * x + (1 - lam) * partner`` (mixup, arXiv:1710.09412, eq. 1).

    Args:
        x: batch ``(N, ...)``, floating point.
        partner: same shape.
        lam: scalar tensor, or ``(N,)`` for one coefficient a sample.

    >>> interpolate(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 3.0]), torch.tensor(0.25))
    tensor([0.2500, 2.5000])
    """
    lam = _there(lam, x)
    return torch.lerp(partner, x, _trailing(lam, x.ndim) if lam.ndim else lam)


def cutmix_boxes(lam: Tensor, centre: Tensor, height: int, width: int) -> Tensor:
    """Boxes of CutMix (arXiv:1905.04899, eq. 2 and appendix A), cut at the image's border.

    Args:
        lam: ``(B,)``, the share of the image to keep before the border cuts the box.
        centre: ``(B, 2)``, row and column of the box's centre in pixels.
        height: image height in pixels.
        width: image width in pixels.

    Returns:
        ``(B, 4)`` int64: top, bottom, left, right; bottom and right exclusive.

    >>> cutmix_boxes(torch.tensor([0.75]), torch.tensor([[0, 4]]), 8, 8)
    tensor([[0, 2, 2, 6]])
    """
    area = (1.0 - lam.double()).clamp(min=0.0)
    # A signal, of one row or column, is cut along its length.
    side = area if min(height, width) == 1 else area.sqrt()
    half_height = (height * side).long() // 2
    half_width = (width * side).long() // 2
    row, column = centre.long().unbind(1)
    top, bottom = (row - half_height).clamp(0, height), (row + half_height).clamp(0, height)
    left, right = (column - half_width).clamp(0, width), (column + half_width).clamp(0, width)
    if height == 1:
        top, bottom = torch.zeros_like(top), torch.ones_like(bottom)
    if width == 1:
        left, right = torch.zeros_like(left), torch.ones_like(right)
    return torch.stack([top, bottom, left, right], dim=1)


def cutmix_box(lam: float, row: int, column: int, height: int, width: int) -> tuple[int, int, int, int]:
    """One of ``cutmix_boxes``, in numbers: a tensor of one number takes as long as one of thousands.

    >>> cutmix_box(0.75, 0, 4, 8, 8)
    (0, 2, 2, 6)
    """
    area = max(1.0 - lam, 0.0)
    side = area if min(height, width) == 1 else math.sqrt(area)

    def edges(centre: int, length: int) -> tuple[int, int]:
        half = int(length * side) // 2
        return (0, 1) if length == 1 else (max(centre - half, 0), min(centre + half, length))

    return *edges(row, height), *edges(column, width)


def box_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boolean masks ``(B, height, width)``, true inside each box ``(top, bottom, left, right)``.

    >>> box_mask(torch.tensor([[0, 1, 1, 3]]), 2, 3).int()
    tensor([[[0, 1, 1],
             [0, 0, 0]]], dtype=torch.int32)
    """
    top, bottom, left, right = (edge.unsqueeze(1) for edge in boxes.unbind(1))
    rows = torch.arange(height, device=boxes.device)
    columns = torch.arange(width, device=boxes.device)
    inside_rows = (rows >= top) & (rows < bottom)
    inside_columns = (columns >= left) & (columns < right)
    return inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)


def paste_boxes(x: Tensor, partner: Tensor | float, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Fill boxes of ``x`` from ``partner`` and say how much of ``x`` is left.

    Args:
        x: images ``(N, ..., H, W)``.
        partner: images of the same shape, or one value.
        boxes: ``(1, 4)``, the same box for all, or ``(N, 4)``.

    Returns:
        the new images, and the exact share kept ``(B,)`` in [0, 1], float32.
    """
    height, width = x.shape[-2:]
    mask = box_mask(boxes.to(x.device, non_blocking=True), height, width)
    mask = mask.view(len(boxes), *(1,) * (x.ndim - 3), height, width)
    # masked_fill would lose the memory format
    return torch.where(mask, partner, x), kept_share(boxes, height, width)


def kept_share(boxes: Tensor, height: int, width: int) -> Tensor:
    """The exact share of an image that is left outside of each box ``(B, 4)``: ``(B,)``, float32.

    >>> kept_share(torch.tensor([[0, 2, 2, 6]]), 8, 8)
    tensor([0.8750])
    """
    top, bottom, left, right = boxes.unbind(1)
    return 1.0 - ((bottom - top) * (right - left)).float() / (height * width)


def gcc(n: int, t: float, variant: GCCVariant = "thesis") -> Tensor:
    """Gradually cascading coefficients GCC_n(t) (thesis eqs. 3.1-3.6).

    With ``s = t (n-1) - k``, ``k = min(floor(t (n-1)), n-2)`` and ``u_m`` uniform over the first m of n
    slots, ``GCC_n(t) = (1 - sigma) u_(n-k) + sigma u_(n-k-1)``. The variants differ in sigma: ``"thesis"``
    is the printed ``s + s (1-s) / (n-1)^2``, ``"progress"`` is ``1 - (1-s)^2`` (what eq. 3.4 probably
    meant), ``"linear"`` is ``s``. At t = 1, where the printed formula divides by zero, the result is
    ``(1, 0, ...)``.

    Args:
        n: number of images at t = 0, at least 1.
        t: progress of the cascade in [0, 1].
        variant: the rule for sigma.

    Returns:
        float64 tensor ``(n,)`` of coefficients in [0, 1] that sum to 1.

    >>> [round(c, 4) for c in gcc(4, 0.5).tolist()]
    [0.4213, 0.4213, 0.1574, 0.0]
    """
    if n == 1 or t >= 1.0:
        return torch.eye(1, n, dtype=torch.float64, device="cpu")[0]
    k = min(math.floor(t * (n - 1)), n - 2)
    s = t * (n - 1) - k
    if variant == "thesis":
        sigma = s + s * (1.0 - s) / (n - 1) ** 2
    elif variant == "progress":
        sigma = 1.0 - (1.0 - s) ** 2
    elif variant == "linear":
        sigma = s
    else:
        raise unknown("variant of GCC", variant, get_args(GCCVariant))
    coefficients = torch.zeros(n, dtype=torch.float64, device="cpu")
    coefficients[: n - k] += (1.0 - sigma) / (n - k)
    coefficients[: n - k - 1] += sigma / (n - k - 1)
    return coefficients


def _there(coefficients: Tensor, x: Tensor) -> Tensor:
    """Coefficients where the batch is, as it is; the host goes on meanwhile."""
    return coefficients.to(x.device, x.dtype, non_blocking=True)


def _groups(x: Tensor, k: int) -> Tensor:
    """A view ``(k, N / k, ...)`` of a batch."""
    return x.reshape(k, len(x) // k, *x.shape[1:])


def _trailing(weights: Tensor, ndim: int) -> Tensor:
    """Append singleton dimensions until ``weights`` broadcasts over a tensor of ``ndim`` dimensions."""
    return weights.reshape(*weights.shape, *(1,) * (ndim - weights.ndim))
