"""How often the host waits for the device in a training step, and how many kernels it launches there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from pretended import NAME, Seen, Wait, watching

import lessonplan as lp
from lessonplan.data import view

_FIRST, _LAST = 25, 45  # updates between which is counted; the first 20 of a selection are timed, which waits


@dataclass
class Step:
    """An update's waits, raw batches and kernels, on average; all waits of these updates with their lines."""

    waits: float
    raw_batches: float
    launches: float
    lines: Counter[Wait]


class _Count(lp.Callback):
    """Watches some of a run's updates."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.raw_batches = 0
        self._watching: Any = None

    def on_batch_end(self, trainer: lp.train.Trainer) -> None:
        tally = getattr(trainer.supply, "tally", None)  # of the selection
        drawn = tally.raw_batches if tally is not None else 0
        if trainer.counters.steps == _FIRST and self._watching is None:
            self._watching, self.raw_batches = watching(), -drawn
            self.seen = self._watching.__enter__()
        elif trainer.counters.steps == _LAST and self._watching is not None:
            self._watching.__exit__(None, None, None)
            self._watching = None
            self.raw_batches += drawn


def of_a_step(plan: str, model: Any = "tiny", *, gathered: bool = False, **settings: Any) -> Step:
    """Train on digits, 8 a batch, in one epoch, at a rate at which nothing is learnt and selections keep going.

    Each step fetches its samples, so that what a fetch launches and waits for is seen; ``gathered`` fetches those
    of many steps together, as training does with samples so small.
    """
    count = _Count()
    data = lp.data.load("digits", val_fraction=0.1, augment="crop:1", device=NAME)
    chosen = {"batch_size": 8, "lr": 1e-6, "device": NAME, "threads": 1, **settings}
    with pytest.MonkeyPatch.context() as patch:
        if not gathered:
            patch.setattr(view, "_GATHERED", 0)
        lp.fit(model, data, plan, f"{_LAST + 1} steps", callbacks=[count], **chosen)
    updates = _LAST - _FIRST
    return Step(
        count.seen.number / updates, count.raw_batches / updates, count.seen.launches / updates, count.seen.waits
    )
