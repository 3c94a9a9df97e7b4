"""When samples are selected: before an epoch, before an update, or both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from lessonplan.errors import ConfigError
from lessonplan.parts.part import Occasion
from lessonplan.parts.state import Stateful
from lessonplan.select.base import Part, Scored
from lessonplan.select.batchwise import Batchwise
from lessonplan.select.epochwise import Epochwise
from lessonplan.select.selection import Selection


class SelectionStages(Stateful):
    """Epochwise selection, batchwise selection of what it keeps, or one of the two.

    Args:
        epochwise: once an epoch, or None.
        batchwise: before every update, or None.

    >>> from lessonplan.select import AccuracyFilter, Batchwise, Epochwise
    >>> SelectionStages.of(AccuracyFilter())
    accuracy >> batchwise
    """

    STATE: ClassVar[tuple[str, ...]] = ("epochwise", "batchwise")

    def __init__(self, epochwise: Epochwise | None = None, batchwise: Batchwise | None = None) -> None:
        self.epochwise, self.batchwise = epochwise, batchwise
        if epochwise is None and batchwise is None:
            raise ConfigError("a selection that never selects: give Epochwise(...), Batchwise(...) or both")

    @classmethod
    def of(cls, given: Selectable) -> SelectionStages:
        """From anything that can be selected by; filters and selectors alone work batchwise."""
        if isinstance(given, SelectionStages):
            return given
        if isinstance(given, Epochwise):
            return cls(epochwise=given)
        if isinstance(given, Batchwise):
            return cls(batchwise=given)
        return cls(batchwise=Batchwise(given))

    def stages(self) -> Iterator[Epochwise | Batchwise]:
        """The ones that there are, in the order in which they select."""
        if self.epochwise is not None:
            yield self.epochwise
        if self.batchwise is not None:
            yield self.batchwise

    def selections(self) -> Iterator[Selection]:
        """The filters and selectors of each stage."""
        for stage in self.stages():
            yield stage.selection

    def setup(self, occasion: Occasion) -> None:
        """Hear of the run it is for: the parts make room for what they remember of each training sample."""
        for selection in self.selections():
            selection.setup(occasion)

    def advance(self, progress: float) -> None:
        """Say how much of the run is over, in [0, 1]."""
        for selection in self.selections():
            selection.advance(progress)

    def observe(self, scored: Scored) -> None:
        """Say what the network thinks of samples it was trained on."""
        for selection in self.selections():
            selection.observe(scored)

    @property
    def sees_another_each_time(self) -> bool:
        """Whether a sample's score depends on the batch it is scored in, or on chance."""
        return any(stage.scoring.mode == "train" for stage in self.stages())

    @property
    def remembers(self) -> bool:
        """Whether a part wants to know what the network says about samples it was trained on."""
        return any(selection.remembers for selection in self.selections())

    def __repr__(self) -> str:
        return " >> ".join(map(str, self.stages()))

    def config(self) -> dict[str, Any]:
        """The selection as plain data."""
        return {
            "epochwise": self.epochwise.config() if self.epochwise is not None else None,
            "batchwise": self.batchwise.config() if self.batchwise is not None else None,
        }


Selectable = SelectionStages | Epochwise | Batchwise | Selection | Part
