"""What a run begins with, from what the user gave: its settings, plan, data, device and network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lessonplan.data import Data
from lessonplan.data import load as load_data
from lessonplan.errors import ConfigError, visible
from lessonplan.mix import Mix
from lessonplan.models import build_model
from lessonplan.models.channels import suit_channels
from lessonplan.models.factory import Factory
from lessonplan.network.accelerator import device_of, is_accelerator, resolve_device, same_device
from lessonplan.network.network import LossFunction
from lessonplan.plan import Plan
from lessonplan.pretrained import find_head
from lessonplan.pretrained.files import digest_of
from lessonplan.progress import say
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.train.budget import Budget
from lessonplan.train.identity import run_config
from lessonplan.train.optimizer import OptimizerFactory
from lessonplan.train.origin import Origin, origin_of, own_network
from lessonplan.train.tuning import Tune


@dataclass
class Beginning:
    """Everything that is settled before the network is there.

    Attributes:
        model: a spelling, or a module of the user's own.
        data: on the device, normalised as the weights ask for.
        plan: the run's own, but for the mix.
        settings: checked.
        seed: of the run.
        device: where it works.
        origin: weights from elsewhere, or None.
        loss, optimizer: functions that the user gave, or None where the settings name them.
    """

    model: str | nn.Module
    data: Data
    plan: Plan
    settings: Settings
    seed: int
    device: torch.device
    origin: Origin | None
    loss: LossFunction | None
    optimizer: OptimizerFactory | None

    def config(self, budget: Budget) -> dict[str, Any]:
        """The run's identity, see ``run_config``."""
        return run_config(
            self.model,
            self.data,
            self.plan,
            budget,
            self.settings,
            self.seed,
            loss=self.loss,
            optimizer=self.optimizer,
            weights=self.origin.identity_for(self.data.class_names) if self.origin is not None else self._frozen(),
        )

    def _frozen(self) -> dict[str, Any] | None:
        """What tells a module's frozen part from another one: checkpoints of a head alone do not hold it."""
        if not isinstance(self.model, nn.Module) or Tune.parse(self.settings.tune).kind != "head":
            return None
        head = find_head(self.model, self.settings.head)
        state = self.model.state_dict()
        return {"frozen": digest_of({k: v for k, v in state.items() if not k.startswith(f"{head}.")})}

    def network(self, *, told: bool = True) -> nn.Module:
        """The network as training begins; what became of weights from elsewhere is said, if it is to be told."""
        if self.origin is None:
            return self.plain_network()
        shape, classes, drawn = self.data.shape, self.data.num_classes, fold_seed(self.seed, "weights")
        network, match = self.origin.network(
            shape=shape,
            num_classes=classes,
            seed=drawn,
            head=self.settings.head,
            class_names=self.data.class_names,
        )
        if told:
            say(visible(f"weights of {self.origin.where}: {match}"))
        return network

    def plain_network(self) -> nn.Module:
        """The network with weights drawn by the seed; a module as it is."""
        if isinstance(self.model, nn.Module):
            return self.model
        drawn = fold_seed(self.seed, "weights")
        return build_model(self.model, shape=self.data.shape, num_classes=self.data.num_classes, seed=drawn)


def begin(
    model: str | nn.Module | Factory,
    data: str | Data,
    plan: Plan | str | None,
    *,
    seed: int,
    loss: str | LossFunction,
    optimizer: str | OptimizerFactory,
    settings: dict[str, Any],
) -> Beginning:
    """Settle what a run begins with; the arguments are those of ``fit``.

    Raises:
        ConfigError: a setting is wrong, or device, data and weights do not go together.
    """
    if not (isinstance(model, str) or callable(model)):
        raise ConfigError(
            f"model is a {type(model).__name__}: give a name (lessonplan.models.model_names()), a torch module, or"
            " a function that makes one"
        )
    if isinstance(loss, str):
        settings = {**settings, "loss": loss}
    if isinstance(optimizer, str):
        settings = {**settings, "optimizer": optimizer}
    chosen = Settings.make(**settings)
    plan = Plan.parse(plan) if isinstance(plan, str) else plan or Plan()
    # A mix is given back as it was (it may be attached to other things); the others are copied.
    plan = Plan(copy.deepcopy(plan.select), copy.deepcopy(plan.order), plan.mix)
    device = _place(chosen.device, model, data)
    origin = origin_of(model, chosen.weights) if chosen.weights is not None else None
    needs = origin.needs_for(chosen.tune) if origin is not None else None
    if isinstance(data, str):
        data = load_data(data, seed=seed, device=device, input=needs)
    else:
        data = data.on(device) if needs is None else data.on(device).as_asked(needs)
    if origin is not None:
        origin.check_columns(data.preprocessing.columns)
    known = model if origin is None else origin.plain
    if not isinstance(known, str):
        known = own_network(known, data.shape, data.num_classes, fold_seed(seed, "weights"))
        if changed := suit_channels(known, data.shape):
            say(visible(f"the network's first convolution was changed: {changed}"))
        origin = replace(origin, model=known, plain=known) if origin is not None else None
    return Beginning(
        known,
        data,
        plan,
        chosen,
        seed,
        device,
        origin,
        None if isinstance(loss, str) else loss,
        None if isinstance(optimizer, str) else optimizer,
    )


def network_at_start(model: str | nn.Module | Factory, data: Data, settings: Settings, seed: int) -> nn.Module:
    """The network as a run with these settings and this seed begins; a module itself, untouched.

    It is to be looked at where the data are: the settings' device, which may be on another machine, is not asked.
    Nothing is said of weights from elsewhere: the run says it.

    Raises:
        ConfigError: see ``begin``.
    """
    given = {**settings.model_dump(), "device": str(data.train.device)}
    loss, optimizer = given["loss"], given["optimizer"]
    return begin(model, data, None, seed=seed, loss=loss, optimizer=optimizer, settings=given).network(told=False)


@contextmanager
def lent(plan: Plan) -> Iterator[None]:
    """Give a plan back as it was, so that it can be used again: stages at their start, classes unset.

    Meanwhile its mix writes each batch into the memory of the last one, which nobody reads after its update.
    """
    mixes = list(_with_children(plan.mix)) if plan.mix is not None else []
    before = [(mix, mix.num_classes, mix.reuse, mix.state_dict()) for mix in mixes]
    if plan.mix is not None:
        plan.mix.reuse_memory()
    try:
        yield
    finally:
        for mix, num_classes, reuse, state in before:
            mix.num_classes = num_classes
            mix.reuse_memory(reuse)  # those inside follow, each with its own
            mix.draw_together(False)
            mix.load_state_dict(state)


def _with_children(mix: Mix) -> Iterator[Mix]:
    yield mix
    for child in mix.children():
        yield from _with_children(child)


def _place(setting: str, model: str | nn.Module | Factory, data: str | Data) -> torch.device:
    """Where a run works: where the setting says, else where the network is, or where its data were put.

    Data that were loaded without a device follow.

    Raises:
        ConfigError: the data were put somewhere else.
    """
    put = data.train.device if isinstance(data, Data) and data.placed else None
    if setting == "auto":
        given = device_of(model) if isinstance(model, nn.Module) else None
        if given is not None and is_accelerator(given):
            return given
        return put if put is not None else resolve_device("auto")
    device = resolve_device(setting)
    if put is not None and not same_device(put, device):
        raise ConfigError(f"the data are on {put} and the setting device is {setting!r}: load them there")
    return device
