"""What selection did in an epoch (ASSIST section 4.1 and figure 6)."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass
class Tally:
    """Counts of one epoch.

    Attributes:
        kept: samples that were kept by an epochwise selection in this epoch.
        raw_batches: batches of candidates that were drawn (by the last selection, where there are two).
        candidates: samples in them.
        accepted: samples that were kept.
        updates: batches that were handed out.
        scored: samples forwarded in order to be scored.
        reused: samples whose scoring pass was their training pass.
        discarded: accepted samples that no batch had room for.
        overflow: sum over the updates of the accepted samples that were left when the batch was full (figure 6b).
        carried: accepted samples that wait for a later batch at the epoch's end.
        trained: samples handed out.
        ages: sum over these of the updates since they were scored.
        oldest: largest of them.
        candidates_each: candidates of each batchwise choice, in order; those that were scored again count as one.
        kept_each: how many of them were kept.
    """

    kept: int = 0
    raw_batches: int = 0
    candidates: int = 0
    accepted: int = 0
    updates: int = 0
    scored: int = 0
    reused: int = 0
    discarded: int = 0
    overflow: int = 0
    carried: int = 0
    trained: int = 0
    ages: int = 0
    oldest: int = 0
    candidates_each: list[int] = field(default_factory=list)
    kept_each: list[int] = field(default_factory=list)

    def chose(self, candidates: int, kept: int) -> None:
        """Note a batchwise choice, for a control that is to keep as many."""
        self.candidates_each.append(candidates)
        self.kept_each.append(kept)

    @property
    def acceptance(self) -> float | None:
        """The share of the candidates that was kept."""
        return self.accepted / self.candidates if self.candidates else None

    def record(self) -> dict[str, Any]:
        """The epoch in numbers, for ``metrics.jsonl``."""
        return {
            **{name: value for name, value in asdict(self).items() if name != "ages"},
            "acceptance": self.acceptance,
            "raw_batches_per_update": self.raw_batches / self.updates if self.updates else None,
            "overflow_per_update": self.overflow / self.updates if self.updates else None,
            "mean_age": self.ages / self.trained if self.trained else None,
        }

    def state_dict(self) -> dict[str, Any]:
        """All counts."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave; what older ones lack counts from here on."""
        empty = asdict(Tally())
        for item in fields(self):
            setattr(self, item.name, copy.copy(state.get(item.name, empty[item.name])))
