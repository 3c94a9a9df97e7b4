"""Everything that trains: network, optimizer, schedule, plan, counters; saved and restored as one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.network.accelerator import is_accelerator, random_state, set_random_state
from lessonplan.network.counters import Counters
from lessonplan.parts.state import Stateful
from lessonplan.plan import Plan
from lessonplan.pretrained.head import find_head
from lessonplan.pretrained.lora import Lora, adapt, merge
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.train.average import Average
from lessonplan.train.metrics import LossMeter
from lessonplan.train.optimizer import OptimizerFactory, build_optimizer, learning_schedule, parameter_groups
from lessonplan.train.schedule import Schedule
from lessonplan.train.tuning import Tune, Tuning

if TYPE_CHECKING:
    from lessonplan.train.shards import Shards


class TrainingState(Stateful):
    """What changes while a network trains.

    Attributes:
        model: the network.
        parameters: all that it has.
        average: its exponential moving average, or None.
        tuning: which of its parts train.
        shards: where network and average are shared out over ranks, what puts states together; else None.
        optimizer, scaler, schedule, plan, counters, meter: as their classes say.
        in_epoch: whether an epoch has begun and is not over.
        lr: learning rate of the last update.
        last_evaluation: sample passes at the last validation.
        stage_best: the best weights of a cascade's present stage, or None.
        best: the best weights of the run, or None.
        stop_reason: why training ended before the budget, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        settings: Settings,
        device: torch.device,
        optimizer: OptimizerFactory | None = None,
        example: Tensor | None = None,
        seed: int = 0,
        shards: Shards | None = None,
    ) -> None:
        self.device, self.shards = device, shards
        self.model = model.to(device) if shards is None else model  # block after block otherwise
        tune = Tune.parse(settings.tune)
        if tune.lora is not None:
            settings = self._adapt(tune.lora, settings, seed, example)
        if settings.channels_last:
            _to_channels_last(self.model)
        self.average: Average | None = None
        if settings.ema is not None:
            self.average = Average(self.model, settings.ema)
        if shards is not None:
            for network in (self.model, *([self.average.module] if self.average is not None else [])):
                shards.share_out(network)
        self.tuning = Tuning(
            self.model, tune, settings.head, example, frozen_statistics=settings.frozen_statistics
        )
        self.parameters = tuple(self.model.parameters())  # to look for them takes as long as to ask for their norm
        trained = parameter_groups(
            self.model, self.tuning.will_train(), settings, example if shards is None else None
        )
        self.optimizer = build_optimizer(trained, settings, optimizer)
        if shards is not None:
            shards.check_optimizer(self.optimizer, self.model)
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        self.schedule = Schedule(learning_schedule(settings))
        self.plan = plan
        self.counters = Counters()
        self.meter = LossMeter()
        self.in_epoch = False
        self.lr = 0.0
        self.last_evaluation = 0
        self.stage_best: dict[str, Any] | None = None
        self.best: dict[str, Any] | None = None
        self.best_metric = float("-inf")
        self.stop_reason: str | None = None

    STATE: ClassVar[tuple[str, ...]] = (
        "optimizer", "schedule", "counters",
        "in_epoch", "lr", "last_evaluation", "stage_best", "best", "best_metric", "stop_reason",
    )  # fmt: skip

    @property
    def evaluated_model(self) -> nn.Module:
        """The network that is judged and kept: the average of the weights where there is one."""
        return self.average.module if self.average is not None else self.model

    def _adapt(self, lora: Lora, settings: Settings, seed: int, example: Tensor | None) -> Settings:
        """Put adapters into the network before anything copies it; the settings name the head from then on."""
        if example is None:
            raise ConfigError("tune=lora tries the network with one input: give an example")
        head = find_head(self.model, settings.head)
        adapt(self.model, lora, head, seed=fold_seed(seed, "lora"), example=example)
        return settings.model_copy(update={"head": head})

    def merge_adapters(self) -> None:
        """Make adapters a part of the weights, and of their average; what was saved before fits no more."""
        merge(self.model)
        if self.average is not None:
            merge(self.average.module)

    def weights(self) -> dict[str, Any]:
        """A copy of the network's parameters and buffers, and of their average."""
        return {
            "model": copy.deepcopy(self.model.state_dict()),
            "average": copy.deepcopy(self.average.state_dict()) if self.average is not None else None,
        }

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Put back what ``weights`` gave."""
        if self.shards is not None:
            weights = self._parts_of(weights)
        self.model.load_state_dict(weights["model"])
        if self.average is not None:
            self.average.load_state_dict(weights["average"])

    def _parts_of(self, weights: dict[str, Any]) -> dict[str, Any]:
        """This rank's parts of weights, whole or in parts."""
        assert self.shards is not None
        average = weights["average"]
        if self.average is not None:
            average = self.shards.parts(average, self.average.state_dict())
        return {"model": self.shards.parts(weights["model"], self.model.state_dict()), "average": average}

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and primitives; PyTorch's global random state too, which dropout reads."""
        state: dict[str, Any] = {
            **super().state_dict(),
            "weights": self.weights(),
            "scaler": self.scaler.state_dict(),
        }
        return {**state, **self.own_state()}

    def own_state(self) -> dict[str, Any]:
        """What each of several ranks has of its own: streams of random numbers, and the losses of its part."""
        own: dict[str, Any] = {
            "mix": self.plan.mix.state_dict() if self.plan.mix is not None else None,
            "meter": self.meter.state_dict(),
            "rng": torch.get_rng_state(),
        }
        if is_accelerator(self.device):
            own[f"{self.device.type}_rng"] = random_state(self.device)
        return own

    def load_own_state(self, own: dict[str, Any]) -> None:
        """Take back what ``own_state`` gave."""
        if self.plan.mix is not None:
            self.plan.mix.load_state_dict(own["mix"])
        self.meter.load_state_dict(own["meter"], self.device)
        torch.set_rng_state(own["rng"])
        if f"{self.device.type}_rng" in own:
            set_random_state(self.device, own[f"{self.device.type}_rng"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        if self.shards is not None:
            kept = {name: self._parts_of(state[name]) if state[name] else None for name in ("best", "stage_best")}
            optimizer = self.shards.optimizer_parts(state["optimizer"], self.optimizer)
            state = {**state, **kept, "optimizer": optimizer}
        self.load_weights(state["weights"])
        super().load_state_dict(state)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.load_own_state(state)


def _to_channels_last(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
