"""Which parts of a network train: all, the head, the last stages, normalisations, part after part, adapters."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lessonplan.errors import ConfigError, unknown
from lessonplan.network.passes import Passes
from lessonplan.network.untouched import asked, train_mode
from lessonplan.pretrained.head import find_head
from lessonplan.pretrained.lora import Lora, adapter_parameters
from lessonplan.text_options import read_pairs, read_values
from lessonplan.train.adapters_cost import AdaptersCost, adapters_cost
from lessonplan.train.stages import NORMS, stages

KINDS = ("all", "head", "last:N", "norm", "gradual", "lora")


@dataclass(frozen=True)
class Tune:
    """What trains, as it is written.

    Args:
        kind: "all"; "head"; "last", the head and the ``last`` stages before it; "norm", the head and all
            normalisations; "gradual", the head first and then one of ``parts`` of the network after the other, at
            equal distances until the share ``until`` of the budget; "lora", the head, and adapters beside layers.
        last: stages.
        parts: of the network before the head.
        until: in (0, 1].
        lora: the adapters.

    >>> Tune.parse("last:2").last, str(Tune.parse("gradual:parts=3")), str(Tune.parse("lora:rank=4"))
    (2, 'gradual:parts=3,until=0.5', 'lora:rank=4,alpha=8')
    """

    kind: str = "all"
    last: int = 0
    parts: int = 4
    until: float = 0.5
    lora: Lora | None = None

    @classmethod
    def parse(cls, text: str) -> Tune:
        """Read ``"last:2"``.

        Raises:
            ConfigError: it is unknown, or a number is out of range.
        """
        kind, _, options = (piece.strip() for piece in text.partition(":"))
        if kind in ("all", "head", "norm") and not options:
            return cls(kind)
        if kind == "last" and re.fullmatch(r"[0-9]{1,6}", options) and int(options) > 0:
            return cls("last", last=int(options))
        if kind == "last":
            raise ConfigError(f"tune={text!r}: give the number of stages before the head, last:2 for example")
        if kind == "gradual":
            given = read_values("gradual", read_pairs("gradual", options), {"parts": int, "until": float})
            tune = cls("gradual", **given)
            if tune.parts < 1 or not 0 < tune.until <= 1:
                raise ConfigError(f"tune={text!r}: give parts=1 or more, and until in (0, 1]")
            return tune
        if kind == "lora":
            return cls("lora", lora=Lora.parse(options))
        raise unknown("tune", text, KINDS)

    def __str__(self) -> str:
        if self.kind == "lora":
            return f"lora:{self.lora}"
        if self.kind == "last":
            return f"last:{self.last}"
        return f"gradual:parts={self.parts},until={self.until:g}" if self.kind == "gradual" else self.kind


class Tuning:
    """Lets parts of a network train, and says what an update then costs.

    Args:
        network: whose parameters' ``requires_grad`` is set; it has its adapters already where they train.
        tune: what trains.
        head: name of the module that gives the logits; None finds out.
        example: ``(1, ...)`` one input, by which the order and the cost of the parts are told.
        frozen_statistics: batch normalisation that trains does so with the running statistics as they are.

    Raises:
        ConfigError: there are fewer stages than are to train, or there is no head.
    """

    def __init__(
        self,
        network: nn.Module,
        tune: Tune,
        head: str | None = None,
        example: Tensor | None = None,
        *,
        frozen_statistics: bool = False,
    ) -> None:
        self.network, self.tune, self._frozen_statistics = network, tune, frozen_statistics
        self._wanted = [p for p in network.parameters() if p.requires_grad]
        self._shares: list[float] | None = None
        self._adapters: AdaptersCost | None = None
        self._open = -1
        if tune.kind == "all":
            return
        self._stages = stages(network, find_head(network, head), example)
        before = len(self._stages) - 1
        if tune.kind == "last" and tune.last > before:
            raise ConfigError(
                f"tune=last:{tune.last}: the network has {before} stages before its head: give at most that many"
            )
        if example is not None and tune.kind != "lora":
            self._shares = forward_shares(network, self._stages, example)
        self.advance(0.0)
        if example is not None and tune.kind == "lora":
            self._adapters = adapters_cost(network, example)

    def advance(self, progress: float) -> None:
        """Thaw what is due at this share of the budget."""
        if self.tune.kind == "all":
            return
        number = self._due(progress)
        if number == self._open:
            return
        self._open = number
        train = {id(p) for stage in self._stages[len(self._stages) - number :] for p in stage}
        if self.tune.kind == "norm":
            train |= {
                id(p) for m in self.network.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)
            }
        if self.tune.kind == "lora":
            train |= {id(p) for p in adapter_parameters(self.network)}
        wanted = {id(p) for p in self._wanted}
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) in train and id(parameter) in wanted)
            if not parameter.requires_grad:
                parameter.grad = None
        if self.network.training:
            self.train_mode()

    def train_mode(self) -> None:
        """Put the network in training mode, but for what stays as it is."""
        train_mode(self.network, frozen_statistics=self._frozen_statistics)

    def _due(self, progress: float) -> int:
        """How many stages train, the head included, counted from the end."""
        if self.tune.kind == "last":
            return 1 + self.tune.last
        if self.tune.kind != "gradual":
            return 1
        before = len(self._stages) - 1
        parts = min(self.tune.parts, before)
        opened = parts if progress >= self.tune.until else int(progress / self.tune.until * parts)
        return 1 + (opened * before) // max(parts, 1)

    def will_train(self) -> list[nn.Parameter]:
        """Parameters that train at some time of the run."""
        if self.tune.kind == "gradual":
            return self._wanted
        return [p for p in self.network.parameters() if p.requires_grad]

    def passes(self, samples: int) -> Passes:
        """What an update with so many samples costs: gradients go back no deeper than to what trains.

        A sample's forward pass counts 1; the gradients of weights count by the share of the forward pass that
        their stages take, and those that travel on to earlier stages by the share of what lies behind the first
        one that trains. With adapters all of it is measured, in forward passes of the network without them.
        """
        if self._adapters is not None:
            return Passes(samples, round(samples * self._adapters.update), samples, samples)
        if self.tune.kind == "all" or self._shares is None:
            return Passes.both(samples)
        shares = self._shares
        if self.tune.kind == "norm":  # gradients travel all the way
            back = 1.0 + shares[-1]
        else:
            open_ = shares[len(shares) - self._open :]
            back = sum(open_) + sum(open_[1:])
        return Passes(samples, round(samples * (1.0 + back)), samples, samples)

    def priced(self, passes: Passes) -> Passes:
        """What passes of others (a mix, a selection, a look-ahead) cost: adapters make them dearer; rounded up."""
        if self._adapters is None:
            return passes
        return passes._replace(cost=math.ceil(passes.cost * self._adapters.forward))


def forward_shares(network: nn.Module, parts: list[list[nn.Parameter]], example: Tensor) -> list[float]:
    """The share of a forward pass of ``example`` ``(1, ...)`` that each stage takes, by multiplications."""
    names = {id(p): name for name, p in network.named_parameters()}
    with asked(network), FlopCounterMode(display=False) as counter:
        network(example)
    per_module: dict[str, Any] = counter.get_flop_counts()
    root = type(network).__name__

    def of(stage: list[nn.Parameter]) -> float:
        modules = {names[id(p)].rpartition(".")[0] for p in stage}
        return float(sum(sum(per_module.get(f"{root}.{module}", {}).values()) for module in modules))

    counts = [of(stage) for stage in parts]
    total = sum(counts) or 1.0
    return [count / total for count in counts]
