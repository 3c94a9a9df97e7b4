"""What curves are drawn against: none of the four is fair to every method, so pages show more than one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A horizontal axis of learning curves.

    Attributes:
        name: its part of a figure's id.
        keys: where its value is in a line of ``metrics.jsonl``.
        label: what is written below it.
    """

    name: str
    keys: tuple[str, ...]
    label: str


COST = Axis("cost", ("cost",), "cost (forward pass 1, backward pass 2)")
UPDATES = Axis("updates", ("step",), "updates")
PASSES = Axis("passes", ("samples",), "samples through the network")
SECONDS = Axis("seconds", ("system", "seconds"), "seconds")
EPOCHS = Axis("epochs", ("epoch",), "epoch (a pass over the raw data)")
