"""No order, as an order: batches as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from lessonplan.batch import Batch
from lessonplan.order.base import Orderer, Ranking
from lessonplan.order.options import Amount


@dataclass(eq=False, kw_only=True)
class Unordered(Orderer):
    """Hands batches on as they come, and knows of nothing."""

    name: ClassVar[str] = "none"
    holds: ClassVar[bool] = False

    @property
    def drawn(self) -> Amount:
        """One candidate: the batch that comes."""
        return 1

    def choose(self, candidates: list[Batch], count: int) -> Ranking:
        """All of them, as they came."""
        return Ranking(candidates[:count], candidates[count:])

    def batches(self, upstream: Iterator[Batch | None]) -> Iterator[Batch | None]:
        """The same batches."""
        return upstream

    def needs_network(self) -> bool:
        """No choice, no network."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """There is nothing to store."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back nothing."""
        del state
