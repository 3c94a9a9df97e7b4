"""One forward pass for scores and for training, where most candidates are accepted."""

from __future__ import annotations

import torch
from torch import Tensor

from lessonplan.batch import Batch, Samples
from lessonplan.network.network import Network
from lessonplan.select.asking import per_sample, pieces
from lessonplan.select.base import Scored
from lessonplan.select.tally import Tally


class SinglePass:
    """Forward passes in training mode, over what waits and candidates, whose backward pass may follow.

    No update comes in between, and nothing is handed out: together they are the pass of one batch, and the
    gradient of its losses is the one that a pass over its samples alone would give.

    Args:
        network: without layers that look at the whole batch, or the accepted ones are normalised with the others.
        waiting: accepted samples of before, which pass with the first candidates.
        whole: candidates pass together, as layers that look at the whole batch ask for; else in pieces as large as
            a device takes them best.

    Attributes:
        forwarded: samples that passed.
    """

    def __init__(self, network: Network, waiting: list[Batch], *, whole: bool) -> None:
        self.forwarded = 0
        self._whole = whole
        self._network, self._waiting = network, waiting
        self._buffers = [(buffer, buffer.clone()) for buffer in network.module.buffers()]
        self._kept: list[Tensor] = []
        self._new = torch.empty(0)

    def score(self, raw: Batch, data: Samples) -> Scored:
        """What the network says of candidates; what waits passes with the first of them."""
        joined = Batch.joined([*self._waiting, raw], data)
        x, y = joined.read(data)
        logits = torch.cat([self._network.logits(part) for part in ([x] if self._whole else pieces(x))])
        self.forwarded += len(joined)
        waited = len(joined) - len(raw)
        if waited:
            self._kept.append(logits[:waited])
        self._waiting, self._new = [], logits[waited:]
        new = self._new.detach()
        losses = per_sample(self._network, new, y[waited:])
        return Scored(raw.indices, data.labels[raw.indices], new, losses)

    def keep(self, positions: Tensor) -> None:
        """Which of the candidates were accepted."""
        self._kept.append(self._new[positions.to(self._new.device, non_blocking=True)])

    def logits(self, size: int) -> Tensor:
        """Of the oldest accepted samples, ``(size, C)``, with a graph."""
        return torch.cat(self._kept)[:size]

    def forget(self, tally: Tally) -> None:
        """It fills no batch: statistics as before, and the passes were for scores only."""
        with torch.no_grad():
            for buffer, saved in self._buffers:
                buffer.copy_(saved)
        tally.scored += self.forwarded
