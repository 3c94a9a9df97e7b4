"""The formulas of filters and selectors as pure functions; draws take a generator on the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from lessonplan.errors import ConfigError, DataError

FLOOR = 1e-8
"""Losses below this count as this where they are raised to a power: float32 has no cross-entropy between."""


def checked_scores(name: str, scores: Tensor) -> Tensor:
    """Scores on the CPU in float64.

    Args:
        name: of the selector, for the message.
        scores: ``(N,)``.

    Raises:
        DataError: there is not one number a sample, or one is NaN or infinite.
    """
    if scores.ndim != 1:
        raise DataError(
            f"{name} needs a loss for each sample, but got the shape {tuple(scores.shape)}: use a loss function"
            " with reduction='none'"
        )
    values = scores.detach().cpu().double()
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise DataError(f"{name} got {bad} of {len(values)} scores that are NaN or infinite: see the losses")
    return values


def checked_losses(name: str, losses: Tensor) -> Tensor:
    """The same for losses that are raised to a power.

    Raises:
        DataError: as ``checked_scores``, or one is below 0.
    """
    values = checked_scores(name, losses)
    if len(values) and float(values.min()) < 0:
        raise DataError(f"{name} got a loss of {float(values.min()):g}: it needs losses of at least 0")
    return values


def checked_logits(name: str, logits: Tensor, targets: Tensor) -> None:
    """See that there is a row of finite logits for each label.

    Raises:
        DataError: shapes do not fit, a logit is NaN or infinite, or something is no tensor.
    """
    for given, what in ((logits, "logits"), (targets, "labels")):
        if not isinstance(given, Tensor):
            raise DataError(f"{name} got {what} of type {type(given).__name__}: give a tensor")
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise DataError(
            f"{name} needs logits (N, C) and labels (N,), but got the shapes {tuple(logits.shape)} and"
            f" {tuple(targets.shape)}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise DataError(f"{name} got logits that are NaN or infinite: see the network's outputs")


def top_gap(logits: Tensor, rank: int = 2) -> Tensor:
    """By how much the highest probability exceeds the one at a rank (ASSIST algorithm 6, line 9).

    Args:
        logits: ``(N, C)``.
        rank: 2 is the second highest, at most C.

    Returns:
        ``(N,)`` in [0, 1].

    >>> top_gap(torch.tensor([[0.5, 0.3, 0.2]]).log())
    tensor([0.2000])
    """
    top = logits.float().softmax(1).topk(rank, dim=1).values
    return top[:, 0] - top[:, -1]


def shrinking_margin(progress: float, margin: float, decay: float) -> float:
    """``1 - (e / E)^decay (1 - margin)``: from 1 at the start to ``margin`` at the end.

    >>> [shrinking_margin(e, 0.2, 1.0) for e in (0.0, 0.5, 1.0)]
    [1.0, 0.6, 0.19999999999999996]
    """
    return float(1.0 - progress**decay * (1.0 - margin))


def read_power(name: str, power: float | str) -> tuple[float, float]:
    """A power, or ``"2->0.5"``, as its values at the start and the end of a run.

    Raises:
        ConfigError: it is neither, or not above 0.

    >>> read_power("qsplit", "2->0.5"), read_power("qsplit", 2)
    ((2.0, 0.5), (2.0, 2.0))
    """
    number = r"\s*([+-]?[\d.]+(?:e[+-]?\d+)?)\s*"
    match = re.fullmatch(rf"{number}(?:->{number})?", str(power))
    try:
        start = float(match[1]) if match else 0.0
        end = float(match[2]) if match and match[2] else start
    except ValueError:
        start = end = 0.0
    if start <= 0 or end <= 0:
        raise ConfigError(
            f"{name}: power {power!r}: give a number above 0, or a change over the run such as 2->0.5"
        )
    return start, end


def power_at(power: tuple[float, float], progress: float) -> float:
    """The power at a share of the run, changing linearly.

    >>> power_at((2.0, 0.5), 0.5)
    1.25
    """
    start, end = power
    return start + (end - start) * progress


def log_powers(losses: Tensor, power: float) -> Tensor:
    """Logarithm of ``loss^power``, so that no power overflows; ``(N,)`` float64."""
    return losses.double().clamp(min=FLOOR).log_().mul_(power)


def draw_with_replacement(log_weights: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Independent draws in proportion to weights.

    Args:
        log_weights: ``(N,)`` float64, N at least 1.
        size: how many draws.
        generator: on the CPU.

    Returns:
        positions ``(size,)`` and the probability of each, float64.
    """
    log_weights = log_weights.cpu()
    largest = log_weights.max()
    edges = (log_weights - largest).exp_().cumsum_(0)
    total = float(edges[-1])
    drawn = torch.rand(size, generator=generator, dtype=torch.float64).mul_(total)
    positions = torch.searchsorted(edges, drawn, right=True).clamp_(max=len(edges) - 1)
    del edges, drawn
    return positions, (log_weights[positions] - largest).exp_().div_(total)


def draw_without_replacement(log_weights: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws in proportion to weights among what is left, as a race of exponential clocks.

    The ``size`` that ring first are taken. Given when the next one rings, each was taken with the
    probability that is returned, so that dividing by it makes a sum unbiased (rank conditioning; E. Cohen and
    H. Kaplan, PODC 2007).

    Args:
        log_weights: ``(N,)`` float64, on any device.
        size: how many, at most N.
        generator: on the CPU.

    Returns:
        positions ``(size,)``, ascending, and the probability of each, float64, on the CPU.
    """
    log_weights = log_weights.cpu()
    clocks = torch.empty(len(log_weights), dtype=torch.float64).exponential_(generator=generator)
    ringing = clocks.log_().sub_(log_weights)
    if size >= len(ringing):
        return torch.arange(len(ringing)), torch.ones(len(ringing), dtype=torch.float64)
    following = ringing.kthvalue(size + 1).values
    positions = (ringing < following).nonzero().squeeze(1)
    return positions, -torch.expm1(-torch.exp(log_weights[positions] + following))


def equal_mass_buckets(losses: Tensor, q: int, power: float) -> list[Tensor]:
    """Cut the sorted losses into q buckets of equal cumulative ``loss^power`` (ASSIST algorithm 4).

    A sample belongs to bucket b if the mass of all smaller losses has reached b q-ths of the whole and not
    b + 1. The printed algorithm reads the mass at the wrong position and moves on by one bucket at most, even
    where one loss spans several.

    Args:
        losses: ``(N,)``, at least 0, N at least 1.
        q: number of buckets.
        power: above 0.

    Returns:
        the positions in each bucket, int64; the first holds the lowest losses.

    >>> equal_mass_buckets(torch.tensor([3.0, 1.0, 2.0, 1.0]), q=2, power=1.0)
    [tensor([1, 3, 2]), tensor([0])]
    """
    ordered, order = losses.sort(stable=True)
    reached = log_powers(ordered, power)
    del ordered  # of a million samples each of these takes up to 8 MB
    reached = reached.sub_(float(reached[-1])).exp_().cumsum_(0)
    edges = reached[-1] / q * torch.arange(1, q, dtype=torch.float64, device=reached.device)
    # The first of a bucket comes right after the sample whose mass reaches the edge.
    starts = torch.searchsorted(reached, edges).add_(1).clamp_(max=len(order))
    return list(order.tensor_split(starts.cpu()))


def bucket_shares(held: list[int], size: int) -> list[int]:
    """How many to draw from each bucket: equally many, and what one lacks from its nearest neighbours.

    Where ``size`` is no multiple of the number of buckets, the highest get one more. The highest short bucket
    is served first, and of two equally near neighbours the higher one gives first.

    Args:
        held: samples in each bucket.
        size: how many in all, at most the sum of ``held``.

    >>> bucket_shares([6, 3, 1], 6)
    [2, 3, 1]
    """
    q = len(held)
    wanted = [size // q + (b >= q - size % q) for b in range(q)]
    taken = [min(w, h) for w, h in zip(wanted, held, strict=True)]
    lacking = [w - t for w, t in zip(wanted, taken, strict=True)]
    for short in reversed(range(q)):
        for _, other in sorted((abs(b - short) - b / q, b) for b in range(q)):
            more = min(lacking[short], held[other] - taken[other])
            taken[other] += more
            lacking[short] -= more
    return taken


def draw_shares(buckets: list[Tensor], shares: list[int], generator: torch.Generator) -> Tensor:
    """Draw so many from each bucket, without replacement; positions ascending.

    Args:
        buckets: the positions in each bucket.
        shares: how many from each, at most what it holds.
        generator: on the CPU.
    """
    keys = torch.rand(sum(len(bucket) for bucket in buckets), generator=generator, dtype=torch.float64)
    drawn = [
        bucket[keys[bucket.cpu()].topk(share, largest=False).indices.to(bucket.device)]
        for bucket, share in zip(buckets, shares, strict=True)
    ]
    return torch.cat(drawn).sort().values


def rounds(indices: Tensor) -> Iterator[Tensor]:
    """Rows ``(m,)`` in which no index repeats; rows of one index follow each other in order.

    >>> [rows.tolist() for rows in rounds(torch.tensor([4, 7, 4]))]
    [[0, 1], [2]]
    """
    order = indices.argsort(stable=True)
    _, counts = indices.unique(return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    times = torch.empty_like(order)
    times[order] = torch.arange(len(order), device=order.device) - starts
    for time in range(int(counts.max()) if len(counts) else 0):
        yield (times == time).nonzero().squeeze(1)
