"""Of several states of a network, the best one: decided where the scores are."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lessonplan.network.accelerator import is_accelerator
from lessonplan.network.snapshot import Snapshot, tensors_in


class BestSnapshot(Snapshot):
    """A snapshot of the best of several tries.

    On the CPU a better state is saved when it is offered. An accelerator would have to be waited for at every
    offer; so it chooses by itself: all tensors of a kind lie in one piece of memory, of which each offer keeps one
    of two versions (twice the memory of a snapshot, two kernels an offer). What is no tensor of the accelerator,
    random states say, is kept of every try until it is known which one was the best.

    Args:
        model, optimizer, scaler: see ``Snapshot``.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None = None, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        super().__init__(model, optimizer, scaler)
        self.begin()

    def begin(self) -> None:
        """Forget what was offered."""
        self._tries: list[tuple[Any, ...] | None] = []
        self._best: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    @torch.no_grad()
    def offer(self, better: Tensor) -> None:
        """Keep everything as it is now if this is better than what was offered before.

        Args:
            better: ``()`` bool, true of the first one that is to be kept.
        """
        if not is_accelerator(better.device):
            if is_better := bool(better):
                self.take()
            self._tries.append(self._taken if is_better else None)
            return
        optimizer = self._optimizer_state() if self.optimizer is not None else None
        scaler = self.scaler.state_dict() if self.scaler is not None else None
        module = self._module_state()
        there, here = self._apart(module, optimizer)
        for key, kept in there.items():
            now = torch.cat([k.tensor.detach().reshape(-1) for k in kept])
            before = self._best.get(key)
            self._best[key] = now if before is None else torch.where(better, now, before)
        values = [k.tensor.clone() for k in here]
        self._tries.append((module, optimizer, scaler, self._random_state(), values))

    @torch.no_grad()
    def restore_offered(self, number: int) -> None:
        """Put the best state back.

        Args:
            number: of the try that was the best, from 0 on.
        """
        offered = self._tries[number]
        assert offered is not None
        if self._best:
            module, optimizer, scaler, random_state, values = offered
            there, here = self._apart(module, optimizer)
            for key, kept in there.items():
                parts = self._best[key].split([k.tensor.numel() for k in kept])
                torch._foreach_copy_(
                    [k.place for k in kept], [p.view(k.tensor.shape) for p, k in zip(parts, kept, strict=True)]
                )
            for k, value in zip(here, values, strict=True):
                k.place.copy_(value)
            everything = [k for kept in there.values() for k in kept] + here
            self._taken = (module, optimizer, scaler, random_state, everything)
        self.restore()
        self.begin()

    @staticmethod
    def _apart(module: Any, optimizer: Any) -> tuple[dict[tuple[torch.dtype, torch.device], list[Any]], list[Any]]:
        """Kept tensors of accelerators by kind, and those of the CPU."""
        there: dict[tuple[torch.dtype, torch.device], list[Any]] = defaultdict(list)
        here = []
        for kept in [*tensors_in(module), *tensors_in(optimizer)]:
            if is_accelerator(kept.tensor.device):
                there[kept.tensor.dtype, kept.tensor.device].append(kept)
            else:
                here.append(kept)
        return there, here
