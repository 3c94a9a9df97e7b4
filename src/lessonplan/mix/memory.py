"""Where a mix writes a batch: new memory, or that of the batch before."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lessonplan.large_memory import LARGE, LargeMemory, large_empty_like

_ROOMY = 4  # times as large as a batch needs: larger memory is left for larger ones, and goes in time
_SPARE = 2  # batches: "x, y = mix(x, y)" in a loop still has the last one when the next is mixed


def direct(x: Tensor) -> bool:
    """Whether a batch can be mixed into memory that is there already.

    It is dense, on a CPU, and no gradient is to flow back through it. Elsewhere memory costs nothing
    (accelerators' allocators keep it), or somebody else decides about it (autograd, compilers, subclasses).
    """
    return (
        x.layout is torch.strided
        and not x.is_nested
        and x.numel() > 0
        and ordinary(x)
        and (x.is_contiguous() or channels_last(x))
        and not (x.requires_grad and torch.is_grad_enabled())
    )


def ordinary(x: Tensor) -> bool:
    """Whether it is a tensor on a CPU as NumPy has them, which nobody else (compilers, transforms) looks at."""
    return (
        type(x) is Tensor
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and x.device.type == "cpu"
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def as_rows(x: Tensor) -> Tensor:
    """A dense batch ``(N, ...)`` as ``(N, R)``, a view in the order of its memory."""
    return (x.movedim(1, -1) if not x.is_contiguous() else x).view(len(x), -1)


class Memory:
    """The memory of a mix' batches, which later ones may take over."""

    def __init__(self) -> None:
        self._kept: Tensor | None = None
        self._large: deque[LargeMemory] = deque(maxlen=_SPARE)

    def like(self, x: Tensor, again: bool = True) -> Tensor:
        """Memory for a batch like ``x``, for which ``direct`` is true.

        In a DataLoader's worker it is always new: what was handed out is on its way to another process.

        Args:
            x: the batch.
            again: take over the last one's memory where it fits, although somebody may still have it; else
                a large batch takes over that of one which nobody has any more.
        """
        if get_worker_info() is not None:
            return torch.empty_like(x)
        if not again:
            return self._unused(x)
        if self._kept is None or not _fits(self._kept, x):
            self._kept = large_empty_like(x)
        # A tensor of its own, so that nothing said of it (requires_grad) is said of the memory. Its version is
        # shared: autograd refuses to use what was overwritten.
        return (self._kept if len(self._kept) == len(x) else self._kept[: len(x)]).detach()

    def _unused(self, x: Tensor) -> Tensor:
        size = x.numel() * x.element_size()
        if size < LARGE:
            return torch.empty_like(x)
        memory = self._free_of(size)
        batch = memory.empty_like(x)
        self._large.append(memory)
        return batch

    def _free_of(self, size: int) -> LargeMemory:
        for _ in range(len(self._large)):
            try:
                memory = self._large.pop()  # written last: it may lie in the cache, and no other thread has it
            except IndexError:
                break
            if size <= memory.size <= _ROOMY * size and memory.free:
                return memory
            self._large.appendleft(memory)
        return LargeMemory(size)


def _fits(kept: Tensor, x: Tensor) -> bool:
    memory = kept.untyped_storage()
    return (
        kept.dtype == x.dtype
        and kept.shape[1:] == x.shape[1:]
        and len(kept) >= len(x)
        and (x.is_contiguous() if kept.is_contiguous() else channels_last(x))
        and memory.data_ptr() != x.untyped_storage().data_ptr()
        and kept.is_inference() == torch.is_inference_mode_enabled()
        and not memory.is_shared()
    )


def channels_last(x: Tensor) -> bool:
    """Whether images ``(N, C, H, W)`` or volumes ``(N, C, D, H, W)`` lie pixel by pixel."""
    return (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)) or (
        x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    )
