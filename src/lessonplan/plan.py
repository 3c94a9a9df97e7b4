"""What happens to samples on their way into the network, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lessonplan.mix import Mix


@dataclass
class Plan:
    """A training procedure; an empty plan is plain mini-batch SGD.

    Every run of ``fit`` is this loop::

        while budget is left:
            candidates = a keyed random permutation of the training samples
            for batch in candidates, cut into nearly equal batches:
                x, y      = data.train.fetch(batch, epoch)     # keyed augmentation
                x, target = plan.mix(x, y)                     # soft targets (M, C)
                loss      = loss_function(model(x), target)
                loss.backward(); optimizer.step()              # clip, scale, average where asked
                observe loss, accuracy, cost
            if an evaluation is due:
                metric = accuracy of model on data.val
                plan.mix.step(metric)                          # a cascade may move on

    Args:
        mix: how samples are mixed, or None.

    >>> Plan.parse("mixup:alpha=0.4")
    Plan(mix=Mixup(seed=None, check=False, alpha=0.4, num_classes=None, per_sample=False))
    """

    mix: Mix | None = None

    @classmethod
    def parse(cls, text: str) -> Plan:
        """A plan from the text of a mix, for example ``"cascade:k=4"``; ``"erm"`` is the empty plan."""
        from lessonplan.mix import parse_mix

        return cls(mix=parse_mix(text))

    def config(self) -> dict[str, Any]:
        """The plan's identity as plain data."""
        return {"mix": self.mix.config() if self.mix is not None else None}
