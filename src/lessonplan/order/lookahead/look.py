"""What look-ahead is: candidates, a goal, and what a look says of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lessonplan.batch import Batch, Samples
from lessonplan.network.learner import Learner, Step
from lessonplan.network.passes import Passes
from lessonplan.network.snapshot import Snapshot
from lessonplan.parts.state import Stateful

On = Literal["same", "external", "relative"]
"""Whose loss is to fall: the candidate's own, the external batch's, or the candidate's relative to what it was."""
ExternalBatch = tuple[Tensor, Tensor]
"""Samples ``(E, ...)`` and labels ``(E,)``."""
NOTHING = Passes()


@dataclass(frozen=True)
class Goal:
    """What updates are judged by.

    Attributes:
        on: whose loss.
        external: the external batch, for ``on="external"``.
        base: the external batch's loss as the network is now, if known.
    """

    on: On
    external: ExternalBatch | None = None
    base: float | None = None


@dataclass
class Look:
    """What a look-ahead says of K candidates.

    Attributes:
        scores: ``(K,)`` on the CPU, of methods that judge samples one a sample in the candidates' order; the
            highest is the winner.
        gains: ``(K,)`` drops of the loss that were measured, or None.
        step: what the winner's update saw, if the network is left behind this update; else None.
        passes: what it took, the winner's update not included where it is kept.
        loss: of the external batch where the network is left, if it is known.
    """

    scores: Tensor
    gains: Tensor | None = None
    step: Step | None = None
    passes: Passes = NOTHING
    loss: float | None = None


class LookAhead(Stateful, ABC):
    """A way to tell which candidate's update helps most; ``lookahead/table.py`` has a row for each.

    Args:
        learner: the network, loss and optimizer.
        data: where candidates are read from.
        layers: of the last modules with parameters, for methods that look at these alone.
    """

    name: ClassVar[str]
    needs_external: ClassVar[bool] = True
    """Whether it works with an external batch only."""
    measures: ClassVar[bool] = False
    """Whether its scores are drops of the loss; else they are estimates, which exact look-ahead can check."""
    holds_candidates: ClassVar[bool] = False
    """Whether losers are candidates of the next look again, with what is kept of them."""
    judges_samples: ClassVar[bool] = False
    """Whether scores are of samples, of which the winner is made, instead of whole candidates."""

    shares: ClassVar[bool] = False
    """Whether ranks share the candidates among them, and end alike; else each looks at all of them."""

    def __init__(self, learner: Learner, data: Samples, *, layers: int = 7) -> None:
        self.learner, self.data, self.layers = learner, data, layers
        self._before = Snapshot(learner.model, learner.optimizer, learner.scaler)
        self._trained = [p for p in learner.model.parameters() if p.requires_grad]

    @abstractmethod
    def look(self, candidates: Sequence[Batch], goal: Goal, *, keep: bool = False) -> Look:
        """Score candidates.

        Args:
            candidates: K batches.
            goal: what updates are judged by.
            keep: leave network, optimizer, scaler and random state behind the winner's update, as if it had been
                trained on, where the method has made it; otherwise everything is as it was, bit for bit.
        """


def external_of(goal: Goal) -> ExternalBatch:
    """The external batch of a goal that has one."""
    assert goal.external is not None
    return goal.external


def best_of(scores: Tensor) -> int:
    """The position of the highest score, the first of equal ones; NaN is the lowest."""
    return int(scores.nan_to_num(-torch.inf, torch.inf).argsort(descending=True, stable=True)[0])
