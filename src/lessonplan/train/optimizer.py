"""Optimizers by name or by a factory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lessonplan.errors import ConfigError
from lessonplan.network.learner import restart
from lessonplan.pretrained.head import find_head
from lessonplan.settings import Settings
from lessonplan.train.stages import stages
from lessonplan.train.tuning import Tune

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Given the parameters, makes any PyTorch optimizer."""

_LEARNING_RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}
_OF_GOOD_WEIGHTS = {"sgd": 0.01, "adam": 3e-4, "adamw": 3e-4}


def learning_rate(settings: Settings) -> float:
    """The learning rate that the settings mean: smaller where whole stages with weights from elsewhere train.

    >>> learning_rate(Settings()), learning_rate(Settings(weights="pretrained"))
    (0.05, 0.0003)
    >>> learning_rate(Settings(weights="pretrained", tune="head"))
    0.001
    """
    if settings.lr is not None:
        return settings.lr
    return (_OF_GOOD_WEIGHTS if _trains_good_weights(settings) else _LEARNING_RATES)[settings.update_rule]


def learning_schedule(settings: Settings) -> str:
    """The schedule that the settings mean: one that warms up where whole stages with weights from elsewhere train.

    There AdamW's first steps, which are as large as any, can throw away what the weights know: sums of 4 pictures
    ended at chance in 12 of 12 runs without a warm-up (``results/benchmarks/fine_tuning_without_warmup.csv``).

    >>> learning_schedule(Settings()), learning_schedule(Settings(weights="pretrained"))
    ('cosine', 'cosine:warmup=10%')
    """
    if settings.schedule != "auto":
        return settings.schedule
    return "cosine:warmup=10%" if _trains_good_weights(settings) else "cosine"


def _trains_good_weights(settings: Settings) -> bool:
    kind = Tune.parse(settings.tune).kind
    return settings.weights is not None and settings.head != "" and kind in ("all", "last", "gradual")


def build_optimizer(
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
    settings: Settings,
    factory: OptimizerFactory | None = None,
) -> Optimizer:
    """The optimizer that the settings name, or the factory's.

    Groups with a ``factor`` get so many times the learning rate.

    Every parameter group remembers its own learning rate as ``base_lr``, which the schedule multiplies.
    """
    if factory is not None:
        optimizer = factory(parameters)  # type: ignore[arg-type]
    else:
        lr = learning_rate(settings)
        decay = settings.weight_decay
        if settings.update_rule == "sgd":
            nesterov = settings.nesterov and settings.momentum > 0
            optimizer = torch.optim.SGD(
                parameters,
                lr=lr,
                momentum=settings.momentum,
                nesterov=nesterov,
                weight_decay=decay,
                # one kernel an update: small networks on a CPU spend a tenth less time
                fused=None if settings.shard else True,
                foreach=True if settings.shard else None,
            )
        else:
            kind = torch.optim.Adam if settings.update_rule == "adam" else torch.optim.AdamW
            # one kernel an update here too, but not where runs were stored before there was a choice
            fused = True if settings.weights is not None and not settings.shard else None
            foreach = True if settings.shard else None  # PyTorch's tensors in parts know these kernels alone
            optimizer = kind(parameters, lr=lr, weight_decay=decay, fused=fused, foreach=foreach)
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * group.pop("factor", 1.0)
        group["base_lr"] = float(group["lr"])
    restart(optimizer)
    return optimizer


def parameter_groups(
    network: nn.Module, trained: list[nn.Parameter], settings: Settings, example: Tensor | None = None
) -> Any:
    """The parameters that train, in groups where learning rate or weight decay differ.

    Args:
        network: whose stages are told apart.
        trained: parameters that train at some time.
        settings: ``head_lr``, ``layer_decay``, ``decay_norms``.
        example: ``(1, ...)`` one input, by which the order of the stages is told; None takes it as it is written.

    Raises:
        ConfigError: nothing trains, or ``head_lr`` is neither a multiple nor a number.
    """
    base = learning_rate(settings)
    head_factor = read_head_lr(settings.head_lr, base)
    if not trained:
        raise ConfigError(
            f"no parameter of the {type(network).__name__} trains: it has none, or each has requires_grad=False;"
            " let those train that are to (requires_grad_())"
        )
    decay_all = settings.decay_norms is True or (settings.decay_norms == "auto" and settings.weights is None)
    if head_factor == 1.0 and settings.layer_decay == 1.0 and decay_all:
        return trained
    factors = {}
    if head_factor != 1.0 or settings.layer_decay != 1.0:
        ordered = example if settings.layer_decay != 1.0 else None
        parts = stages(network, find_head(network, settings.head), ordered)
        for depth, stage in enumerate(reversed(parts)):
            factor = head_factor if depth == 0 else settings.layer_decay**depth
            factors.update({id(p): factor for p in stage})
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in trained:
        decays = decay_all or parameter.ndim > 1  # norms' weights and biases are vectors
        groups.setdefault((factors.get(id(parameter), 1.0), decays), []).append(parameter)
    return [
        {"params": members, "factor": factor, **({} if decays else {"weight_decay": 0.0})}
        for (factor, decays), members in groups.items()
    ]


def read_head_lr(text: str, base: float) -> float:
    """The head's learning rate as a multiple of the others'.

    >>> read_head_lr("10x", 0.01), read_head_lr("0.05", 0.01)
    (10.0, 5.0)
    """
    number = text.strip().lower()
    try:
        value = float(number.removesuffix("x"))
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"head_lr={text!r}: give a multiple of the learning rate (10x), or a number above 0")
    return value if number.endswith("x") else value / base


def scale_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its own base."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
