"""Gradual top-k attention: a layer of parallel modules of which fewer and fewer are listened to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessonplan.errors import require, unknown
from lessonplan.mix.functional import GCCVariant, gcc

_NO_WEIGHT = 1e-12  # rounding of the progress must not keep a module alive


class TopKAttention(nn.Module):
    """Weighted sum of n parallel modules, from all of them down to each sample's best (thesis, future work 4).

    Each sample has an attention score for each module: the mean of the sample over its pixels, times a learnt
    key, softmax over modules. The module of rank j counts its score times the j-th gradually cascading
    coefficient ``GCC_n`` (thesis eqs. 3.1-3.6), and the weights are scaled to sum to 1. So all n take part at
    the start, the last one of each sample fades, then n - 1 are left, and so on, without a jump. For equal
    scores the weights are the coefficients themselves.

    A module runs only on the samples that give it weight. With one module left the scores get no gradient.

    Args:
        branches: n >= 2 modules that take the same input and give outputs of one shape.
        features: channels of the input, its second dimension.
        keep: how many modules are left at the end, 1 <= keep < n.
        variant: the rule by which weight moves, see `lessonplan.mix.functional.gcc`.

    Forward takes ``(N, features, ...)``. The keys start at 0: equal scores, ties in the order of the branches.

    Raises:
        ConfigError: a number is out of range, or the input has other channels.

    >>> layer = TopKAttention([nn.Identity(), nn.Identity(), nn.Identity()], features=2)
    >>> layer.attention(torch.ones(1, 2))
    tensor([[0.3333, 0.3333, 0.3333]], ...)
    >>> layer.advance(0.5)
    >>> layer.attention(torch.ones(1, 2))
    tensor([[0.5000, 0.5000, 0.0000]], ...)
    """

    coefficients: Tensor

    def __init__(
        self,
        branches: Iterable[nn.Module],
        features: int,
        *,
        keep: int = 1,
        variant: GCCVariant = "thesis",
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        n = len(self.branches)
        require(n >= 2, f"TopKAttention got {n} modules: give at least 2")
        require(features >= 1, f"features={features}: give the number of channels of the input, at least 1")
        require(1 <= keep < n, f"keep={keep} of {n} modules: give a number from 1 to {n - 1}")
        if variant not in get_args(GCCVariant):
            raise unknown("variant of GCC", variant, get_args(GCCVariant))
        self.keep, self.variant = keep, variant
        self.keys = nn.Parameter(torch.zeros(n, features))
        self.register_buffer("coefficients", torch.full((n,), 1.0 / n))

    def advance(self, progress: float) -> None:
        """Say how much of the fading is done: 0 listens to all modules, 1 to ``keep`` of them.

        Args:
            progress: in [0, 1].
        """
        require(0 <= progress <= 1, f"progress={progress}: give a share in [0, 1]")
        n = len(self.branches)
        coefficients = gcc(n, progress * (n - self.keep) / (n - 1), self.variant)
        self.coefficients.copy_(coefficients.where(coefficients > _NO_WEIGHT, 0.0))

    def attention(self, x: Tensor) -> Tensor:
        """The weights of the modules for each sample, ``(N, n)``; rows sum to 1."""
        features = self.keys.shape[1]
        require(
            x.ndim >= 2 and x.shape[1] == features,
            f"TopKAttention got an input of shape {tuple(x.shape)}: give (N, {features}, ...)",
        )
        pooled = x.flatten(2).mean(2) if x.ndim > 2 else x
        scores = F.linear(pooled, self.keys) / math.sqrt(features)
        order = scores.argsort(dim=1, descending=True, stable=True)
        share = torch.zeros_like(order, dtype=self.coefficients.dtype)
        share = share.scatter(1, order, self.coefficients.expand_as(order))
        weights = scores.softmax(1) * share
        return weights / weights.sum(1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, features, ...)`` to the weighted sum of the modules' outputs."""
        weights = self.attention(x)
        total: Tensor | None = None
        for branch, weight in zip(self.branches, weights.unbind(1), strict=True):
            rows = weight.nonzero()[:, 0]
            whole = len(rows) == len(x)
            if len(rows) == 0 and not whole:
                continue
            out: Tensor = branch(x if whole else x[rows])
            out = out * weight[rows].to(out.dtype).view(-1, *(1,) * (out.ndim - 1))
            if total is None:
                total = out.new_zeros(len(x), *out.shape[1:])
            total = total + out if whole else total.index_add(0, rows, out)
        assert total is not None  # some module has weight, whatever the sample
        return total
