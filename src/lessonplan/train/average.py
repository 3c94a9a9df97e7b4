"""The exponential moving average of a network's weights."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lessonplan.network.ranks import local


class Average(AveragedModel):
    """PyTorch's average of weights and buffers, which does not wait for an accelerator at every update.

    Args:
        model: what is averaged.
        decay: share of the average that an update leaves, in [0, 1].
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._blend = get_ema_multi_avg_fn(decay)
        super().__init__(model, multi_avg_fn=self._blend, use_buffers=True)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights after an update; the first ones are the average themselves."""
        # Of weights that are shared out over ranks, each averages its parts.
        averages = map(local, chain(self.module.parameters(), self.module.buffers()))
        values = map(local, chain(model.parameters(), model.buffers()))
        kinds: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = defaultdict(
            lambda: ([], [])
        )
        for average, value in zip(averages, values, strict=True):
            own, given = kinds[average.device, average.dtype]
            own.append(average)
            given.append(value)
        first = int(self.n_averaged) == 0  # counted on the CPU
        for own, given in kinds.values():
            if first:
                torch._foreach_copy_(own, given)
            else:
                self._blend(own, given, self.n_averaged)
        self.n_averaged += 1
