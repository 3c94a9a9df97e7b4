"""Where a mixture takes place: in the input, or in a hidden layer, by a hook that is there only for one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, require, unknown
from lessonplan.mix import functional as F
from lessonplan.mix.model_aware import ModelAwareMix
from lessonplan.network.network import Network

INPUT = "input"


@dataclass(frozen=True)
class _Pending:
    """What is to be mixed in a hidden layer: the layer's name, ``(k - 1, N)`` partners, their weights."""

    layer: str
    partners: Tensor
    weights: Tensor


class _Hosted:
    """Not a dataclass, so that each mix places ``layers`` and ``k`` among its own arguments."""

    layers: Sequence[str] | None
    k: int


@dataclass(eq=False, kw_only=True)
class HiddenMix(_Hosted, ModelAwareMix):
    """A mix of a batch with permutations of itself, in a layer drawn for each batch of those in ``layers``.

    ``layers`` are names of modules whose output is mixed, and ``"input"``; None is the input. Hidden layers are
    mixed while the network runs, by a hook that is there only inside ``forward_context``. A layer's output keeps
    its length, so that also one inside of a residual block can be mixed.
    """

    def __post_init__(self) -> None:
        self._pending: _Pending | None = None
        super().__post_init__()
        require(self.layers is None or len(self.layers) > 0, "layers is empty: name at least one")

    def _layers_of(self, module: nn.Module) -> list[str]:
        """The layers to draw from.

        Raises:
            ConfigError: the network has no layer of that name.
        """
        known = [INPUT, *(name for name, _ in module.named_modules() if name)]
        for layer in self.layers or ():
            if layer not in known:
                raise unknown("layer", layer, known)
        return [INPUT] if self.layers is None else list(self.layers)

    def attach(self, network: Network) -> None:
        """Work with this network from now on; its layers are looked up here."""
        self._layers_of(network.module)
        super().attach(network)

    def needs_network(self) -> bool:
        """True, unless only the input is mixed."""
        return any(layer != INPUT for layer in self.layers or ())

    def reaches_inside(self) -> bool:
        """True where hidden states of the batch that it was given are mixed."""
        return self.needs_network()

    def _draw_layer(self) -> str:
        """The layer in which this batch is mixed.

        Raises:
            ConfigError: the last one was to be mixed in a hidden layer, and was not.
        """
        if self._pending is not None:
            layer, self._pending = self._pending.layer, None
            raise ConfigError(
                f"the last batch was to be mixed behind {layer!r}, but the network ran outside of the mix:"
                " write 'with mix.forward_context():' around the forward pass"
            )
        layers = self._layers_of(self.network.module) if self.needs_network() else [INPUT]
        return layers[self._integer(len(layers))]

    def _blend(self, layer: str, x: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
        """``functional.permuted_sum`` of the batch here, or of what the layer makes of it, in the next pass."""
        if layer == INPUT:
            return F.permuted_sum(x, partners, weights)
        self._pending = _Pending(layer, partners, weights)
        return self._copy(x)

    def _check_shape(self, x: Tensor) -> None:
        n = len(x)
        require(self.k <= n, f"k={self.k} is larger than the batch of {n}: give a smaller k or a larger batch")

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """Mix inside the network, while this context is open, what the last call left for it."""
        hidden, self._pending = self._pending, None
        if hidden is None:
            yield
            return
        fired: list[bool] = []

        def mix_output(module: nn.Module, inputs: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor) or len(output) != hidden.partners.shape[1]:
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ConfigError(
                    f"layer {hidden.layer!r} gives {shape}, but {hidden.partners.shape[1]} samples are to be"
                    " mixed there: name a layer whose output is a tensor with a row a sample"
                )
            if fired:  # a module that the network uses twice is mixed once
                return output
            fired.append(True)
            return F.permuted_sum(output, hidden.partners, hidden.weights)

        with ExitStack() as stack:
            # A compiled network does not see hooks that come and go.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            handle = self.network.module.get_submodule(hidden.layer).register_forward_hook(mix_output)
            stack.callback(handle.remove)
            yield
        if not fired:
            raise ConfigError(
                f"layer {hidden.layer!r} took no part in the forward pass: name a layer that the network uses"
            )

    def _restored(self) -> None:
        super()._restored()
        self._pending = None
