"""RHO-LOSS: learnable, worth learning, and not yet learnt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lessonplan.batch import Samples
from lessonplan.errors import ConfigError, DataError
from lessonplan.network.network import LossFunction, Network, soft_cross_entropy
from lessonplan.select.asking import Scoring
from lessonplan.select.base import Scored
from lessonplan.select.functional import checked_scores
from lessonplan.select.selectors import TopK

_CHUNK = 512


@dataclass(eq=False)
class RhoLoss(TopK):
    """The largest reducible losses: the loss minus that of a model trained on other data (arXiv:2206.07137).

    Args:
        size: see ``Selector``.
        holdout: losses ``(N,)`` of the holdout model on every training sample (``holdout_losses``), or the
            name of a run that has such a model, which whoever runs the training resolves by ``give_holdout``.
    """

    name: ClassVar[str] = "rho-loss"
    STATE: ClassVar[tuple[str, ...]] = ("holdout=_losses",)
    size: int | float = 0.1
    holdout: Tensor | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._losses: Tensor | None = None
        self._samples: int | None = None
        if isinstance(self.holdout, Tensor):
            self.give_holdout(self.holdout)

    def give_holdout(self, losses: Tensor) -> None:
        """Hear the holdout model's losses on all training samples, ``(N,)``.

        Raises:
            DataError: they are not one finite number for each training sample.
        """
        self._losses = checked_scores(f"{self.name} (holdout losses)", losses).float()
        self._check_length()

    def make_room(self, samples: int, num_classes: int) -> None:
        """See that there is a holdout loss for each sample."""
        super().make_room(samples, num_classes)
        self._samples = samples
        self._check_length()

    def score(self, scored: Scored) -> Tensor:
        """The reducible losses ``(N,)``.

        Raises:
            ConfigError: no holdout losses were given.
        """
        if self._losses is None:
            raise ConfigError(
                f"{self.name} does not know the holdout losses: give holdout=holdout_losses(model, data), with a"
                " model trained on other data"
            )
        assert scored.losses is not None
        return scored.losses - self._losses[scored.indices.cpu()].to(scored.losses.device)

    def config(self) -> dict[str, Any]:
        """Name and options; a tensor by its checksum."""
        config = super().config()
        if isinstance(self.holdout, Tensor) and self._losses is not None:
            config["holdout"] = hashlib.sha256(self._losses.numpy().tobytes()).hexdigest()[:16]
        return config

    def _restored(self) -> None:
        self._check_length()

    def _check_length(self) -> None:
        if self._losses is not None and self._samples is not None and len(self._losses) != self._samples:
            raise DataError(
                f"{self.name}: {len(self._losses)} holdout losses for {self._samples} training samples: give one"
                " for each, in their order"
            )


def holdout_losses(model: nn.Module, data: Samples, loss: LossFunction = soft_cross_entropy) -> Tensor:
    """What a model trained on other data says of each sample, in evaluation mode; the model stays as it is.

    Args:
        model: the holdout model, on the device of the data.
        data: the training samples, without augmentation.
        loss: of logits ``(N, C)`` and targets ``(N, C)``, one a sample.

    Returns:
        ``(N,)`` float32 on the CPU.
    """
    network, score = Network(model, loss), Scoring()
    chunks = torch.arange(len(data)).split(_CHUNK)
    return torch.cat([score(network, *data.fetch(indices))[1].cpu() for indices in chunks])
