"""No selection, as a selection: every sample is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lessonplan.select.batchwise import Batchwise
from lessonplan.select.epochwise import Epochwise
from lessonplan.select.stages import SelectionStages


class Everything(SelectionStages):
    """Keeps all samples: it has no stages, remembers nothing and has no state."""

    def __init__(self) -> None:
        self.epochwise = self.batchwise = None

    def stages(self) -> Iterator[Epochwise | Batchwise]:
        """None."""
        yield from ()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take back nothing; older runs have stored None."""
        del state
