"""Batch normalisation by the samples of all ranks: PyTorch's, and its like for the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lessonplan.network.accelerator import is_accelerator

_together: ContextVar[bool] = ContextVar("together", default=False)


@contextmanager
def together() -> Iterator[None]:
    """All ranks make the forward pass inside, at the same time."""
    token = _together.set(True)
    try:
        yield
    finally:
        _together.reset(token)


class OnAccelerators(nn.SyncBatchNorm):
    """PyTorch's, in passes that all ranks make (``together``).

    In other passes (scores of candidates, of which each rank has its own) it is plain batch normalisation. A rank
    that borrows a sample counts it among the others.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, ...)`` normalised."""
        return super().forward(input) if _together.get() else _BatchNorm.forward(self, input)


class OnCPU(_BatchNorm):
    """The same on the CPU, for which PyTorch has none; gradients of the statistics go back to all ranks."""

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, ...)`` normalised."""
        return self._of_all(input) if self.training and _together.get() else super().forward(input)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch normalisation wants (N, C, ...), and got {input.ndim} dimensions")

    def _of_all(self, input: Tensor) -> Tensor:
        x, over = input.float(), [0, *range(2, input.ndim)]
        wide = (1, -1, *(1 for _ in over[1:]))
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = _summed(torch.cat([x.sum(over), count]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        centred = x - mean.view(wide)
        variance = _summed(centred.square().sum(over)) / n
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * n / (n - 1))
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (centred * scale.view(wide)).to(input.dtype)
        return (centred * (scale * self.weight).view(wide) + self.bias.view(wide)).to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Sum(torch.autograd.Function):
    """The sum over the ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _summed(own: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(own)  # type: ignore[no-untyped-call]
    return total


def synced(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with all its batch normalisation synchronised; parameters and buffers are the same ones."""
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    kind = OnAccelerators if is_accelerator(device) else OnCPU
    for module in converted.modules():
        if type(module) is nn.SyncBatchNorm:
            # Their attributes are those of any batch normalisation.
            module.__class__ = kind  # type: ignore[assignment]
    return converted
