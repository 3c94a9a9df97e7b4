"""What curves are drawn against: none of them is fair to every method, so pages offer more than one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A horizontal axis of learning curves.

    Attributes:
        name: its part of a figure's id.
        keys: where its value is in a line of ``metrics.jsonl``.
        label: what is written below it.
        words: what it is called on the page's switch.
        plus: what is added to the value.
    """

    name: str
    keys: tuple[str, ...]
    label: str
    words: str
    plus: float = 0.0


COST = Axis("cost", ("cost",), "cost (forward pass 1, backward pass 2)", "cost")
UPDATES = Axis("updates", ("step",), "updates", "updates")
PASSES = Axis("passes", ("samples",), "samples through the network", "passes")
SECONDS = Axis("seconds", ("system", "seconds"), "seconds", "seconds")
EPOCHS = Axis("epochs", ("epoch",), "epoch (a pass over the raw data)", "epochs")
FINISHED_EPOCHS = Axis("epochs", ("epoch",), "epochs (passes over the raw data)", "epochs", plus=1.0)
"""Values stand at the end of their epoch: the first at 1."""
