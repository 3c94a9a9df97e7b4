"""Manifold mixup: mixing in the input or in a hidden layer, drawn for each batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, require, unknown
from lessonplan.mix import functional as F
from lessonplan.mix.model_aware import ModelAwareMix
from lessonplan.network.network import Network

INPUT = "input"


@dataclass(frozen=True)
class _Hidden:
    """What is to be mixed in a hidden layer: the layer's name, ``(k - 1, N)`` partners, ``(k,)`` weights."""

    layer: str
    partners: Tensor
    weights: Tensor


@dataclass(eq=False)
class ManifoldMixup(ModelAwareMix):
    """Interpolate a batch with a permutation of itself in a layer drawn for each batch (arXiv:1806.05236).

    Hidden layers are mixed while the network runs, by a hook that is there only inside ``forward_context``::

        mix = ManifoldMixup(num_classes=10, model=model)      # fit does all of this itself
        x, target = mix(x, y)
        with mix.forward_context():
            logits = model(x)

    Args:
        alpha: parameter of Beta(alpha, alpha), above 0; for k > 2 of the symmetric Dirichlet. The paper uses 2.
        num_classes: see ``Mix``.
        layers: names of modules whose output is mixed, and ``"input"``; None is the input and the outputs of the
            first two stages, for networks that name their stages (ours in ``stage_names``, timm's in
            ``feature_info``).
        k: images in a mixture, 2 or more (the thesis proposes sums in hidden layers).
        model, loss: see ``ModelAwareMix``; the loss is not used.

    Raises:
        ConfigError: a layer does not exist or takes no part in the forward pass, its output is no batch of
            tensors, or the network ran outside ``forward_context``.
    """

    name: ClassVar[str] = "manifold"
    alpha: float = 2.0
    num_classes: int | None = None
    layers: Sequence[str] | None = None
    k: int = 2

    def __post_init__(self) -> None:
        self._pending: _Hidden | None = None
        super().__post_init__()
        require(self.alpha > 0, f"alpha={self.alpha}: give a parameter of a Beta distribution, above 0")
        require(self.k >= 2, f"k={self.k}: give at least 2 images for a mixture")
        require(self.layers is None or len(self.layers) > 0, "layers is empty: name at least one")

    def attach(self, network: Network) -> None:
        """Work with this network from now on; its layers are looked up here."""
        _resolve(self.layers, network.module)
        super().attach(network)

    def reaches_inside(self) -> bool:
        """True: hidden states of the batch that it was given are mixed."""
        return True

    def needs_network(self) -> bool:
        """True, unless only the input is mixed."""
        return self.layers is None or any(layer != INPUT for layer in self.layers)

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self._pending is not None:
            layer, self._pending = self._pending.layer, None
            raise ConfigError(
                f"the last batch was to be mixed behind {layer!r}, but the network ran outside of the mix:"
                " write 'with mix.forward_context():' around the forward pass"
            )
        layers = _resolve(self.layers, self.network.module) if self.needs_network() else [INPUT]
        layer = layers[int(torch.randint(len(layers), (), generator=self.generator))]
        k = self._fitting(len(x), self.k)
        if k == 1:
            return self._copy(x), self._targets(y)
        partners = self._permutations(k - 1, len(x), x.device)
        weights = self._dirichlet(self.alpha, 1, k)[:, 0].float()
        target = F.permuted_sum(self._targets(y), partners, weights)
        if layer == INPUT:
            return F.permuted_sum(x, partners, weights), target
        self._pending = _Hidden(layer, partners, weights)
        return self._copy(x), target

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

    def current_k(self) -> int:
        """As many images as a hidden state is mixed of."""
        return self.k


def _resolve(layers: Sequence[str] | None, module: nn.Module) -> list[str]:
    """The names of the layers to draw from.

    Raises:
        ConfigError: a name is unknown, or none was given for a network that does not name its stages.
    """
    if layers is None:
        stages = getattr(module, "stage_names", None) or _timm_stages(module)
        if not stages:
            raise ConfigError(
                f"{type(module).__name__} does not name its stages: give layers=..., modules' names or 'input'"
            )
        return [INPUT, *stages[:2]]
    known = [INPUT, *(name for name, _ in module.named_modules() if name)]
    for layer in layers:
        if layer not in known:
            raise unknown("layer", layer, known)
    return list(layers)


def _timm_stages(module: nn.Module) -> list[str]:
    """The modules in which a network of timm takes its features at falling sizes, in their order."""
    told = getattr(module, "feature_info", None)
    return [str(entry["module"]) for entry in told] if isinstance(told, list) else []
