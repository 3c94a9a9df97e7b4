"""What a run has spent so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lessonplan.network.passes import Passes


@dataclass
class Counters:
    """Everything a budget can be measured in.

    ``samples`` are sample passes through the network (forward passes alone, for scores, included);
    ``forwarded`` and ``backpropagated`` say how many of them were of which kind, and ``cost`` weighs them;
    ``raw_samples`` is what was drawn from the data,
    ``evaluated`` the passes spent on validation (reported, not part of the cost of training).
    """

    steps: int = 0
    samples: int = 0
    raw_samples: int = 0
    cost: int = 0
    forwarded: int = 0
    backpropagated: int = 0
    evaluated: int = 0
    seconds: float = 0.0
    epoch: int = 0
    epoch_share: float = 0.0

    @property
    def epochs(self) -> float:
        """Passes over the raw data, the present one in part."""
        return self.epoch + self.epoch_share

    def trained(self, passes: Passes) -> None:
        """Count an update by the passes that it took."""
        self.steps += 1
        self.passed(passes)

    def passed(self, passes: Passes) -> None:
        """Count passes through the network."""
        self.samples += passes.samples
        self.cost += passes.cost
        self.forwarded += passes.forwarded
        self.backpropagated += passes.backpropagated

    def count_epochs(self, epoch_samples: int) -> None:
        """Say where in the present epoch the run is; a sum of shares would miss the epoch's end by rounding."""
        self.epoch_share = (self.raw_samples - self.epoch * epoch_samples) / epoch_samples

    def state_dict(self) -> dict[str, Any]:
        """All counters."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        for name, value in state.items():
            setattr(self, name, value)
