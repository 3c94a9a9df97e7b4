"""Mixes that need the network: given by hand or by the trainer, never stored, copied or sent with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from lessonplan.errors import ConfigError
from lessonplan.mix.base import Mix
from lessonplan.network.network import LossFunction, Network, soft_cross_entropy


@dataclass(eq=False, kw_only=True)
class ModelAwareMix(Mix):
    """A mix that looks into the network, or reaches into it.

    Args:
        model: the network; ``fit`` fills it in.
        loss: what is minimised, a scalar or one loss a sample; None is soft cross-entropy. ``fit`` gives its own.
    """

    model: nn.Module | None = field(default=None, repr=False)
    loss: LossFunction | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._network: Network | None = None
        if self.model is not None:
            self.attach(Network(self.model, self.loss or soft_cross_entropy))

    @property
    def network(self) -> Network:
        """The network that the samples are for.

        Raises:
            ConfigError: there is none yet.
        """
        if self._network is None:
            name = type(self).__name__
            raise ConfigError(f"{name} works with the network: give {name}(model=...), or train with fit")
        return self._network

    def attach(self, network: Network) -> None:
        """Work with this network from now on."""
        self._network = network

    def needs_network(self) -> bool:
        """It looks into the network, or reaches into it."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        # A loop's network stays with the loop; one that the user gave belongs to the mix.
        state = super().__getstate__()
        if self.model is None:
            state["_network"] = None
        return state
