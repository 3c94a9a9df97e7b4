"""Predictions averaged over random mixes with a fixed pool: what test-time sums and Mixup Inference share."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lessonplan.errors import ConfigError, DataError
from lessonplan.evaluate.network import Progress, own_generator
from lessonplan.network.accelerator import device_of

Of = Literal["probabilities", "logits"]
Self = TypeVar("Self", bound="RandomisedDefence")


class RandomisedDefence(nn.Module):
    """A network that predicts from several mixes of its input with samples of a pool.

    Every call draws partners anew. ``forward`` takes ``(N, ...)`` and gives ``(N, C)``: the logarithm of the
    averaged probabilities, or the averaged logits; either can stand where logits can. It is differentiable;
    where the copies do not fit in one chunk, gradients recompute each chunk, so that memory stays bounded.

    Subclasses say which partners are drawn.
    """

    pool: Tensor

    def __init__(
        self,
        model: nn.Module,
        pool: Tensor,
        *,
        own: float,
        partners: int,
        copies: int,
        chunk: int,
        of: Of,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        if not pool.is_floating_point() or pool.ndim < 2:
            raise DataError(
                f"the pool has shape {tuple(pool.shape)} and type {pool.dtype}: give floating-point samples"
                " (P, ...) as the network takes them"
            )
        if copies < 1 or chunk < 1:
            raise ConfigError(f"copies={copies} and chunk={chunk}: both must be at least 1")
        if of not in ("probabilities", "logits"):
            raise ConfigError(f"of={of!r}: give probabilities or logits")
        self.model = model
        self.register_buffer("pool", pool.detach().to(device_of(model, pool)), persistent=False)
        self.own, self.partners = own, partners
        self.copies, self.chunk = copies, chunk
        self.of: Of = of
        self.generator = own_generator(generator)

    def with_copies(self: Self, copies: int) -> Self:
        """The same defence, sharing model, pool and generator, with another number of copies."""
        if copies < 1:
            raise ConfigError(f"copies={copies}: give at least 1")
        other = copy.copy(self)
        other.copies = copies
        return other

    def forward(self, x: Tensor) -> Tensor:
        """Average over ``copies`` fresh mixes; see the class."""
        return average(self.passes(x), self.of)

    def passes(self, x: Tensor, progress: Progress | None = None) -> Iterator[Tensor]:
        """Logits of the single copies, in groups ``(g, N, C)`` of as many copies as a chunk holds.

        Args:
            x: inputs ``(N, ...)``, shaped like the pool's samples.
            progress: hears of every sample passed through the network.
        """
        self._check(x)
        known = self._look(x)
        group = max(1, self.chunk // len(x))
        alone = self.copies <= group and len(x) <= self.chunk
        for begin in range(0, self.copies, group):
            drawn = self._draw(min(group, self.copies - begin), len(x), known)
            parts = []
            for start in range(0, len(x), self.chunk):
                rows = slice(start, start + self.chunk)
                pair = x[rows].to(self.pool.device), drawn[:, rows].to(self.pool.device)
                if torch.is_grad_enabled() and not alone:
                    parts.append(checkpoint(self._run, *pair, use_reentrant=False))
                else:
                    parts.append(self._run(*pair))
                if progress is not None:
                    progress(parts[-1].shape[0] * parts[-1].shape[1])
            yield torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def mix(self, x: Tensor, partners: Tensor) -> Tensor:
        """``own * x`` and the rest in equal shares from the pool.

        Args:
            x: ``(n, ...)``.
            partners: rows of the pool, ``(g, n, p)`` integer.

        Returns:
            ``(g, n, ...)``.
        """
        # A bag sums the rows while it reads them: no (g, n, p, ...) tensor is ever made.
        flat = partners.reshape(-1, self.partners)
        total = F.embedding_bag(flat, self.pool.flatten(1), mode="sum").to(x.dtype)
        total = total.mul_((1.0 - self.own) / self.partners).view(*partners.shape[:2], *x.shape[1:])
        mixed: Tensor = total.add_(x, alpha=self.own)
        return mixed

    def _run(self, x: Tensor, partners: Tensor) -> Tensor:
        logits: Tensor = self.model(self.mix(x, partners).flatten(0, 1))
        return logits.float().view(*partners.shape[:2], -1)

    def _look(self, x: Tensor) -> Tensor | None:
        """What the draws depend on; None if they depend on nothing."""
        return None

    def _draw(self, copies: int, count: int, known: Tensor | None) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not say which partners it draws")

    def _check(self, x: Tensor) -> None:
        if len(x) == 0 or x.shape[1:] != self.pool.shape[1:] or not x.is_floating_point():
            raise DataError(
                f"inputs of shape {tuple(x.shape)} and type {x.dtype} cannot be mixed with a pool of shape"
                f" {tuple(self.pool.shape)}: give at least one floating-point input shaped like the pool's samples"
            )


def average(passes: Iterable[Tensor], of: Of) -> Tensor:
    """Average copies of logits ``(g, N, C)`` that come in groups: log of mean probabilities, or mean logits.

    >>> average([torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[2.0, 1.0]]])], "logits")
    tensor([[1.0000, 0.5000]])
    """
    total, count = None, 0
    for group in passes:
        count += len(group)
        if of == "logits":
            part = group.sum(0)
            total = part if total is None else total + part
        else:
            part = group.log_softmax(-1).logsumexp(0)
            total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return total / count if of == "logits" else total - math.log(count)
