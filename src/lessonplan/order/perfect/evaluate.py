"""Loss and accuracy of many networks of one architecture on the same samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lessonplan.order.perfect.grouped import GroupedChain, chain_of
from lessonplan.order.perfect.state import State, Tensors

Loss = Callable[[Tensor, Tensor], Tensor]
"""``(logits (N, C), labels (N,)) -> mean loss``, a scalar."""

GROUPED_NETWORKS, GROUPED_SAMPLES = 16, 128  # what small networks compute with this stays in a core's cache
CPU_SAMPLES = 512
GPU_NETWORKS, GPU_SAMPLES = 64, 2048


class Evaluator:
    """Evaluates stacked networks on fixed samples, a chunk of networks and samples at a time.

    Args:
        network: the architecture; evaluation mode is set while it is used.
        x: samples ``(V, ...)``, V >= 1, where the networks are.
        y: labels ``(V,)``.
        loss: mean loss of a batch.
        grouped: whether chains of layers may be computed as grouped ones, see `GroupedChain`.
        stacked: whether networks of another form may be stacked; on the CPU they are not, because that is slower
            than one after the other.
    """

    def __init__(
        self, network: nn.Module, x: Tensor, y: Tensor, loss: Loss, *, grouped: bool = True, stacked: bool = True
    ) -> None:
        self._network, self._x, self._y, self._loss = network, x, y, loss
        on_gpu = x.device.type != "cpu"
        self._networks = GPU_NETWORKS if on_gpu and stacked else 1
        self._samples = GPU_SAMPLES if on_gpu else CPU_SAMPLES
        layers = chain_of(network) if grouped and not on_gpu else None
        with torch.no_grad():
            self._chain = None if layers is None else GroupedChain(layers, x)
        if self._chain is not None:
            self._networks, self._samples = GROUPED_NETWORKS, GROUPED_SAMPLES

    @torch.no_grad()
    def __call__(self, states: State) -> tuple[Tensor, Tensor]:
        """Loss ``(K,)`` and accuracy ``(K,)`` in [0, 1] of K stacked networks, float64 on the CPU."""
        was_training = self._network.training
        self._network.eval()
        try:
            found = [
                self._together(states.rows(slice(first, first + self._networks)))
                for first in range(0, len(states), self._networks)
            ]
        finally:
            self._network.train(was_training)
        return torch.cat([f[0] for f in found]).cpu(), torch.cat([f[1] for f in found]).cpu()

    def _together(self, states: State) -> tuple[Tensor, Tensor]:
        """A chunk of networks on all samples."""
        logits = torch.cat(
            [
                self._logits(states, first, min(first + self._samples, len(self._y)))
                for first in range(0, len(self._y), self._samples)
            ],
            dim=1,
        )
        losses = torch.stack([self._loss(one, self._y).double() for one in logits])
        return losses, (logits.argmax(-1) == self._y).double().mean(1)

    def _logits(self, states: State, first: int, last: int) -> Tensor:
        """``(K, last - first, classes)``."""
        if self._chain is not None:
            return self._chain.logits(states, first, last)
        x = self._x[first:last]

        def forward(params: Tensors) -> Tensor:
            logits: Tensor = functional_call(self._network, params, (x,))
            return logits

        if self._networks == 1:
            return forward(states.rows(0).params)[None]
        return vmap(forward)(states.params)
