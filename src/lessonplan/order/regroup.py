"""Batches made of samples instead of whole candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from lessonplan.batch import Batch, Samples
from lessonplan.order.base import Ranking


def choice_of_samples(
    candidates: list[Batch], order: Tensor, count: int, data: Samples, generator: torch.Generator | None
) -> Ranking:
    """Winners of the samples that come first, as large as the candidates; the others are dealt out anew.

    Args:
        candidates: K batches, N samples in all.
        order: ``(n,)`` positions among the N, the first one first, as many as ``count`` winners take.
        count: winners.
        data: where missing pixels are read.
        generator: deals the others out to K - ``count`` losers; None makes no losers.
    """
    everything = Batch.joined(candidates, data)
    sizes = [len(batch) for batch in candidates]
    winners = [everything.rows(part) for part in order.split(sizes[:count])]
    if generator is None:
        return Ranking(winners, [])
    left = torch.ones(len(everything), dtype=torch.bool)
    left[order] = False
    others = left.nonzero().squeeze(1)
    others = others[torch.randperm(len(others), generator=generator)]
    return Ranking(winners, [everything.rows(part) for part in others.split(sizes[count:])])
