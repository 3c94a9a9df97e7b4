"""What happens to samples on their way into the network, as data."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lessonplan.errors import ConfigError

if TYPE_CHECKING:
    from lessonplan.mix import Mix
    from lessonplan.order.base import Orderer
    from lessonplan.select.stages import Selectable, SelectionStages


@dataclass(init=False)
class Plan:
    """A training procedure; an empty plan is plain mini-batch SGD.

    Every run of ``fit`` is this loop::

        while budget is left:
            candidates = a keyed random permutation of the training samples
            candidates = plan.select.epochwise(candidates)           # score all, keep some
            for batch in plan.order(plan.select.batchwise(candidates)):
                # batchwise: score raw batches, gather what is kept; order: look ahead, best batch first
                x, y      = data.train.fetch(batch, epoch)           # keyed augmentation
                x, target = plan.mix(x, y)                           # soft targets (M, C)
                losses    = loss_function(model(x), target) * weights
                losses.mean().backward(); optimizer.step()           # clip, scale, average where asked
                observe losses, accuracy, cost
            if an evaluation is due:
                metric = accuracy of model on data.val
                plan.mix.step(metric)                                # a cascade may move on

    Args:
        select: which samples are trained on (a filter, a selector, both joined with ``>>``, or one of
            ``Epochwise`` and ``Batchwise`` around them), or None for all.
        order: in which order batches are trained on, or None for as they come.
        mix: how samples are mixed, or None.

    >>> Plan.parse("select:accuracy + mixup:alpha=0.4").select
    accuracy >> batchwise
    """

    select: SelectionStages | None = None
    order: Orderer | None = None
    mix: Mix | None = None

    def __init__(
        self, select: Selectable | None = None, order: Orderer | None = None, mix: Mix | None = None
    ) -> None:
        if select is not None:
            from lessonplan.select.stages import SelectionStages

            self.select = SelectionStages.of(select)
        self.order, self.mix = order, mix

    @classmethod
    def parse(cls, text: str) -> Plan:
        """A plan from its text: a mix, ``select:...``, ``order:...``, or several joined by `` + ``.

        Examples: ``"cascade:k=4"``, ``"select:accuracy:margin=0.2 >> topk:0.5"``,
        ``"select:accuracy + order:loss-delta:candidates=8 + mixup"``; ``"erm"`` is the empty plan.

        Raises:
            ConfigError: a name or option is unknown, or a part is given twice.
        """
        parts: dict[str, str] = {}
        for part in re.split(r"\s\+\s", text):
            kind, colon, rest = part.strip().partition(":")
            if not colon or kind not in ("select", "order", "mix"):
                kind, rest = "mix", part.strip()
            if kind in parts:
                raise ConfigError(f"{text!r} says twice how to {kind}: give one select, one order, one mix")
            parts[kind] = rest
        return cls.from_texts(**parts)

    @classmethod
    def from_texts(cls, select: str = "none", order: str = "none", mix: str = "none") -> Plan:
        """A plan from the texts of its parts."""
        from lessonplan.mix import parse_mix

        plan = cls(mix=parse_mix(mix))
        if select not in ("", "none"):
            from lessonplan.select import parse_select

            plan.select = parse_select(select)
        if order not in ("", "none"):
            from lessonplan.order import parse_order

            plan.order = parse_order(order)
        return plan

    def copy(self) -> Plan:
        """A plan of the same parts, each in a state of its own."""
        return copy.deepcopy(self)

    def config(self) -> dict[str, Any]:
        """The plan's identity as plain data."""
        config: dict[str, Any] = {"mix": self.mix.config() if self.mix is not None else None}
        if self.select is not None:
            config["select"] = self.select.config()
        if self.order is not None:
            config["order"] = self.order.config()
        return config
