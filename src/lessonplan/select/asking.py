"""Asking the network about samples; no trace is left in it, unless running statistics are to follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.batch import Batch, Samples
from lessonplan.errors import ConfigError
from lessonplan.network.accelerator import random_state
from lessonplan.network.learner import soft
from lessonplan.network.network import Network, as_logits
from lessonplan.network.ranks import Ranks
from lessonplan.network.untouched import Mode, accelerators, asked, followed

_CHUNK = 1024
_CHUNK_ON_CPU = 128  # larger activations leave the caches, and each sample then takes up to twice the time
_PROBE = 32


@dataclass(frozen=True)
class Scoring:
    """How candidates are scored.

    Args:
        mode: "eval", by running statistics and without dropout, or "train", by the statistics of the batch and
            with it; a batch of a single sample has no statistics and is scored in "eval".
        statistics: "restore" the running statistics of batch normalisation behind a scoring pass, or let them
            "follow" it, as they do in ASSIST's own code, which scores in training mode (taken as said, then). They
            are then of candidates as they come, not of those alone that are trained on.
        precision: "same" as training, or "bf16" for the scoring passes only.
        resolution: 1, or .5 to score images of half the side (the network must take them).
    """

    mode: Mode = "eval"
    precision: Literal["same", "bf16"] = "same"
    resolution: float = 1.0
    statistics: Literal["restore", "follow"] = "restore"

    def __post_init__(self) -> None:
        if self.statistics not in ("restore", "follow"):
            raise ConfigError(f"scoring with statistics={self.statistics!r}: give restore or follow")
        if self.statistics == "follow":
            object.__setattr__(self, "mode", "train")
        if self.mode not in ("eval", "train") or self.precision not in ("same", "bf16"):
            raise ConfigError(
                f"scoring with mode={self.mode!r}, precision={self.precision!r}: give eval or train, same or bf16"
            )
        if self.resolution not in (1.0, 0.5):
            raise ConfigError(f"scoring at resolution {self.resolution}: give 1 or 0.5")

    @property
    def plain(self) -> bool:
        """Whether samples are scored exactly as they would be trained on."""
        return self.precision == "same" and self.resolution == 1.0

    def __call__(self, network: Network, x: Tensor, y: Tensor, more: int = 0) -> tuple[Tensor, Tensor]:
        """Score.

        Args:
            network: the network with its loss.
            x: ``(N, ...)``.
            y: ``(N,)`` labels.
            more: passes that are made beside, see ``Ranks.short_of``.

        Returns:
            logits ``(N, C)`` float32 and losses ``(N,)`` float32, without a graph.

        Raises:
            ConfigError: the loss function gives no loss for each sample.
        """
        mode: Mode = self.mode if len(x) > 1 else "eval"
        around = followed if self.statistics == "follow" and mode == "train" else asked
        with around(network.module, mode):
            # Batch statistics need the whole batch; otherwise chunks bound the memory.
            parts = [x] if mode == "train" else pieces(x)
            logits = torch.cat([self._logits(network, part) for part in parts])
            for _ in range(more):
                self._logits(network, x[:1])
            return logits, per_sample(network, logits, y)

    def of(self, network: Network, batch: Batch, data: Samples) -> tuple[Tensor, Tensor]:
        """The same of a batch, shared out over the network's ranks; all of them get the same scores.

        Batch statistics are those of the whole batch, for which every rank passes all of it.
        """
        whole = network.ranks.alone or self.mode == "train"
        own = batch if whole else batch.part(network.ranks)
        return self.together(network, *own.read(data), len(batch))

    def part(self, indices: Tensor, ranks: Ranks) -> Tensor:
        """What a rank has to read of samples that are to be scored."""
        return indices if ranks.alone or self.mode == "train" else indices[ranks.taken(len(indices))]

    def together(self, network: Network, x: Tensor, y: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Scores of ``rows`` samples, of which this rank has read its ``part``."""
        ranks = network.ranks
        more = ranks.short_of(rows, _largest(x)) if self.mode == "eval" else 0
        logits, losses = self(network, x, y, more)
        if ranks.alone:
            return logits, losses
        both = torch.cat([logits, losses[:, None]], 1)
        if self.mode == "train":
            ranks.level([both])
        else:
            both = ranks.rows(both[: ranks.sizes(rows)[ranks.rank]], rows)
        return both[:, :-1], both[:, -1]

    def _logits(self, network: Network, x: Tensor) -> Tensor:
        if self.resolution != 1.0:
            x = _halved(x)
        if self.precision == "same":
            return network.logits(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return as_logits(network.module(x), len(x))


def pieces(x: Tensor) -> list[Tensor]:
    """Nearly equal parts of samples ``(N, ...)``, as large as their device takes them best."""
    return list(x.tensor_split(max(1, math.ceil(len(x) / _largest(x)))))


def _largest(x: Tensor) -> int:
    return _CHUNK_ON_CPU if x.device.type == "cpu" else _CHUNK


def per_sample(network: Network, logits: Tensor, y: Tensor) -> Tensor:
    """The loss of each sample ``(N,)``.

    Raises:
        ConfigError: the loss function averages, or the targets are mixed already.
    """
    if y.ndim != 1:
        raise ConfigError(
            f"selection needs one class number a sample, and got targets of shape {tuple(y.shape)}: where a"
            " collate function mixes, take it away and write its mix in the plan ('select:... + mixup')"
        )
    losses = network.loss(logits, soft(y, logits.shape[1]))
    if losses.shape != y.shape:
        raise ConfigError(
            f"selection needs a loss for each of {len(y)} samples, and the loss function gives the shape"
            f" {tuple(losses.shape)}: give one with reduction='none'"
        )
    return losses.float()


def same_in_both_modes(model: nn.Module, x: Tensor) -> tuple[bool, int]:
    """Whether the network computes the same in training and in evaluation mode (no batch norm, no dropout).

    Asked of the network itself, with a few samples, so that layers it does not name are found too: by what
    comes out, by the random numbers that they draw, and by the buffers that they change (what comes out may be
    the same for all, where the last layer starts with zeros).

    Returns:
        the answer, and how many samples were forwarded for it.
    """
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return False, 0
    probe, outputs = x[:_PROBE], []
    for mode in ("eval", "train"):
        with asked(model, mode):
            before = [tensor.clone() for tensor in _traces(model)]
            outputs.append(as_logits(model(probe), len(probe)))
            if not all(torch.equal(a, b) for a, b in zip(before, _traces(model), strict=True)):
                return False, len(outputs) * len(probe)
    return torch.equal(*outputs), len(outputs) * len(probe)


def _traces(model: nn.Module) -> list[Tensor]:
    """What a forward pass that is not a function of its input alone would change."""
    random = [torch.get_rng_state(), *(random_state(device) for device in accelerators(model))]
    return [*random, *model.buffers()]


def _halved(x: Tensor) -> Tensor:
    if x.ndim != 4 or min(x.shape[2:]) < 2:
        raise ConfigError(f"scoring at half resolution needs images, not samples of shape {tuple(x.shape[1:])}")
    return F.avg_pool2d(x, 2)
