"""Where a mix writes a batch: new memory, or that of the batch before."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


def direct(x: Tensor) -> bool:
    """Whether a batch can be mixed into memory that is there already.

    It is dense, on a CPU, and no gradient is to flow back through it. Elsewhere memory costs nothing
    (accelerators' allocators keep it), or somebody else decides about it (autograd, compilers, subclasses).
    """
    return (
        type(x) is Tensor
        and not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.numel() > 0
        and (x.is_contiguous() or _channels_last(x))
        and not (x.requires_grad and torch.is_grad_enabled())
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def as_rows(x: Tensor) -> Tensor:
    """A dense batch ``(N, ...)`` as ``(N, R)``, a view in the order of its memory."""
    return (x.movedim(1, -1) if not x.is_contiguous() else x).view(len(x), -1)


class Memory:
    """The memory of a mix' batches, which the next one may take over."""

    def __init__(self) -> None:
        self._kept: Tensor | None = None

    def like(self, x: Tensor) -> Tensor:
        """Memory for a batch like ``x``, for which ``direct`` is true: the last one's where it fits.

        In a DataLoader's worker it is always new: what was handed out is on its way to another process.
        """
        if get_worker_info() is not None:
            return torch.empty_like(x)
        if self._kept is None or not _fits(self._kept, x):
            self._kept = torch.empty_like(x)
        # A tensor of its own, so that nothing said of it (requires_grad) is said of the memory. Its version is
        # shared: autograd refuses to use what was overwritten.
        return self._kept[: len(x)].detach()


def _fits(kept: Tensor, x: Tensor) -> bool:
    return (
        kept.dtype == x.dtype
        and kept.shape[1:] == x.shape[1:]
        and len(kept) >= len(x)
        and (x.is_contiguous() if kept.is_contiguous() else _channels_last(x))
        and kept.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
        and kept.is_inference() == torch.is_inference_mode_enabled()
        and not kept.is_shared()
    )


def _channels_last(x: Tensor) -> bool:
    return (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)) or (
        x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    )
