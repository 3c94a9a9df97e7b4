"""The network as it trains on one of several ranks: PyTorch averages the gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from lessonplan.network.accelerator import is_accelerator
from lessonplan.network.ranks import Ranks
from lessonplan.network.synced_norm import together
from lessonplan.network.untouched import asked


class Replica:
    """A network behind ``DistributedDataParallel``, made anew where other parameters come to train.

    Buffers are not its business (see ``level_buffers``), nor are passes that others make of the network: gradients
    are averaged behind a forward pass through the replica alone.

    Args:
        network: as it is passed (compiled, perhaps).
        example: ``(1, ...)`` an input, by which parameters that take no part are found.
        ranks: who trains.
        reduce: the number format in which gradients travel.
    """

    def __init__(self, network: nn.Module, example: Tensor, ranks: Ranks, reduce: Literal["fp32", "bf16"]) -> None:
        self._network, self._example, self._ranks, self._reduce = network, example, ranks, reduce
        self._trained: list[int] = []
        self._wrapped: DistributedDataParallel | None = None

    def prepare(self) -> None:
        """Get ready for what trains now, by a pass of its own: a mix must not be at work in the network yet."""
        trained = [id(p) for p in self._network.parameters() if p.requires_grad]
        if self._wrapped is None or trained != self._trained:
            self._trained, self._wrapped = trained, self._wrap()

    def __call__(self, x: Tensor) -> Tensor:
        """The forward pass whose backward pass averages the gradients; behind ``prepare``."""
        assert self._wrapped is not None
        with together():
            logits: Tensor = self._wrapped(x)
        return logits

    def _wrap(self) -> DistributedDataParallel:
        on = self._example.device
        with warnings.catch_warnings():
            # PyTorch 2.13 has another name for broadcast_buffers, which versions before it do not know.
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = DistributedDataParallel(
                self._network,
                device_ids=[on] if is_accelerator(on) and dist.get_backend() != "gloo" else None,
                broadcast_buffers=False,
                find_unused_parameters=self._some_idle(),
                init_sync=False,  # all begin with the first rank's state
            )
        if self._reduce == "bf16":
            # PyTorch's own hook under no name of its, by which it is refused to gloo, which can do it too.
            wrapped.register_comm_hook(None, lambda state, bucket: bf16_compress_hook(state, bucket))
        return wrapped

    def _some_idle(self) -> bool:
        """Whether a parameter takes no part in the output, so that nobody may wait for its gradient."""
        trained = [p for p in self._network.parameters() if p.requires_grad]
        with asked(self._network), torch.enable_grad():
            output = self._network(self._example)
            gradients = torch.autograd.grad(output.float().sum(), trained, allow_unused=True)
        return any(gradient is None for gradient in gradients)


def through(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The forward pass of a network that is shared out, which averages gradients by itself."""

    def passed(x: Tensor) -> Tensor:
        with together():
            logits: Tensor = network(x)
        return logits

    return passed


def level_buffers(network: nn.Module, ranks: Ranks) -> None:
    """Let all ranks have the first one's running statistics, as ``DistributedDataParallel`` does."""
    if not ranks.alone:
        ranks.level(list(network.buffers()))
