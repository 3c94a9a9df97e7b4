"""Memory of large tensors on a CPU: in huge pages where the system has them, and known to be free again."""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

LARGE = 2**22
"""Bytes from which on memory comes from the operating system rather than from what was freed before."""
_HUGE = 2**21  # bytes of a huge page


class LargeMemory:
    """Memory for one dense tensor at a time, which can tell whether a tensor lies in it still.

    Memory of the system is taken page by page, when each is written to for the first time: pages of 4 KiB take
    longer than the copy of what goes into them, and are given back when a tensor of some size is freed. Here
    Linux is asked for pages of 2 MiB, and the memory can be used again.

    Args:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._owner, self._start = _pages(size)

    @property
    def free(self) -> bool:
        """Whether no tensor lies in it: none of Python's, and none that autograd or a view keeps alive."""
        return sys.getrefcount(self._owner) == _IDLE

    def empty_like(self, x: Tensor) -> Tensor:
        """As ``torch.empty_like(x)``, in this memory.

        Args:
            x: dense, in any order of its dimensions, on a CPU, of at most ``size`` bytes and at least one.
        """
        flat = torch.frombuffer(self._owner, dtype=x.dtype, count=x.numel(), offset=self._start)
        return torch.empty(0, dtype=x.dtype, device="cpu").set_(flat.untyped_storage(), 0, x.shape, x.stride())


class _Holder:
    """Holds something as ``LargeMemory`` does, and nobody else holds it."""

    def __init__(self) -> None:
        self._owner = object()

    def count(self) -> int:
        return sys.getrefcount(self._owner)


_IDLE = _Holder().count()


def large_empty_like(x: Tensor) -> Tensor:
    """What ``torch.empty_like`` gives, which costs half as much to write to for the first time if it is large.

    Args:
        x: dense, in any order of its dimensions, on a CPU.

    >>> large_empty_like(torch.zeros(3, 2)).shape
    torch.Size([3, 2])
    """
    size = x.numel() * x.element_size()
    return LargeMemory(size).empty_like(x) if size >= LARGE else torch.empty_like(x)


def _pages(size: int) -> tuple[mmap.mmap | np.ndarray, int]:
    """An object that holds so many bytes, and where they begin in it."""
    if sys.platform != "linux":
        return np.empty(size, dtype=np.uint8), 0
    try:
        memory = mmap.mmap(-1, size + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{size} bytes for a batch: {error.strerror}") from error
    with suppress(OSError):  # a system without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory, -torch.frombuffer(memory, dtype=torch.uint8).data_ptr() % _HUGE
