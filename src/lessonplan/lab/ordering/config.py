"""What a search is: everything that decides its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.optim import Optimizer

from lessonplan.errors import ConfigError
from lessonplan.order.perfect import count_permutations
from lessonplan.order.perfect.plain import OptimizerFactory
from lessonplan.strict import Strict

# .004 with momentum .9 brings the small network through losses like the thesis' (its card has a table)
_LEARNING_RATES = {"sgd": 0.004, "adam": 1e-3, "adamw": 1e-3}


class OrderingConfig(Strict):
    """A search for orders of batches; the defaults are those of the thesis' experiment where it names them."""

    KIND: ClassVar[str] = "option of an ordering search"

    data: str
    """Source of the samples, see ``lessonplan.data.load``."""
    test: str | None = None
    """Test data of their own."""
    classes: tuple[str, ...] | None = None
    """Names of the classes that take part; all if None."""
    per_class: Annotated[int, Field(ge=1)] = 24
    """Training samples of each class."""
    evaluate: Annotated[int, Field(ge=1)] | None = 2048
    """Samples for evaluation; None: all others."""
    evaluate_on: Literal["val", "test"] = "val"
    """Samples that nothing else uses, or test data, as the thesis did."""
    model: str = "small-conv"
    """Name of the network."""
    outputs: Annotated[int, Field(ge=2)] | None = None
    """Outputs of the network; None: one for every class of the data, also those that take no part."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Samples of a batch."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Update rule, made anew for every epoch."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate; None: .004 for sgd, .001 for adam and adamw."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Momentum of sgd; None: .9."""
    nesterov: bool = False
    """Nesterov's form of the momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay."""
    redraw: bool = True
    """A new split into batches each epoch (algorithm 1), or one for all (the thesis' text)."""
    max_permutations: Annotated[int, Field(ge=1)] | None = None
    """Orders drawn for a tree where there are more; None trains all."""
    survivors: Annotated[int, Field(ge=1)] = 12
    """Starts of the next epoch."""
    seed: int = 0
    """Of samples, weights, splits, draws and clusters."""

    @model_validator(mode="after")
    def _one_update_rule(self) -> OrderingConfig:
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov=True without momentum: give momentum above 0, for example 0.9")
        if self.optimizer != "sgd" and (self.momentum is not None or self.nesterov):
            raise ConfigError(f"momentum is for sgd, not for {self.optimizer}: leave it out")
        return self

    @property
    def learning_rate(self) -> float:
        """The learning rate, or the optimizer's usual one."""
        return self.lr or _LEARNING_RATES[self.optimizer]

    @property
    def used_momentum(self) -> float:
        """The momentum of sgd, 0 of the others."""
        if self.optimizer != "sgd":
            return 0.0
        return 0.9 if self.momentum is None else self.momentum

    def batches(self, samples: int) -> int:
        """Number of batches of an epoch."""
        return -(-samples // self.batch_size)

    def runs(self, samples: int, epochs: int) -> int:
        """Runs of the whole search: one tree, then ``survivors`` trees an epoch.

        >>> OrderingConfig(data="digits").runs(48, 13)
        104400
        """
        orders = count_permutations(self.batches(samples), self.max_permutations)
        return orders * self.trees(epochs)

    def trees(self, epochs: int) -> int:
        """Trees of the whole search.

        >>> OrderingConfig(data="digits").trees(13)
        145
        """
        return 1 + (epochs - 1) * self.survivors

    def optimizer_factory(self) -> OptimizerFactory:
        """Makes the optimizer of some parameters."""
        return partial(_optimizer, self)


def _optimizer(config: OrderingConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    lr, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=config.used_momentum, nesterov=config.nesterov, weight_decay=decay
        )
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=lr, weight_decay=decay)
