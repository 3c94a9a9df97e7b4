"""Manifold mixup: mixing in the input or in a hidden layer, drawn for each batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lessonplan.errors import ConfigError, require
from lessonplan.mix import functional as F
from lessonplan.mix.hidden import INPUT, HiddenMix


@dataclass(eq=False)
class ManifoldMixup(HiddenMix):
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
        super().__post_init__()
        require(self.alpha > 0, f"alpha={self.alpha}: give a parameter of a Beta distribution, above 0")
        require(self.k >= 2, f"k={self.k}: give at least 2 images for a mixture")

    def _layers_of(self, module: nn.Module) -> list[str]:
        if self.layers is not None:
            return super()._layers_of(module)
        stages = getattr(module, "stage_names", None) or _timm_stages(module)
        if not stages:
            raise ConfigError(
                f"{type(module).__name__} does not name its stages: give layers=..., modules' names or 'input'"
            )
        return [INPUT, *stages[:2]]

    def reaches_inside(self) -> bool:
        """True: hidden states of the batch that it was given are mixed."""
        return True

    def needs_network(self) -> bool:
        """True, unless only the input is mixed."""
        return self.layers is None or super().needs_network()

    def _mix(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        layer = self._draw_layer()
        k = self._fitting(len(x), self.k)
        if k == 1:
            return self._copy(x), self._targets(y)
        partners = self._permutations(k - 1, len(x), x.device)
        weights = self._dirichlet(self.alpha, 1, k)[:, 0].float()
        target = F.permuted_sum(self._targets(y), partners, weights)
        return self._blend(layer, x, partners, weights), target

    def current_k(self) -> int:
        """As many images as a hidden state is mixed of."""
        return self.k


def _timm_stages(module: nn.Module) -> list[str]:
    """The modules in which a network of timm takes its features at falling sizes, in their order."""
    told = getattr(module, "feature_info", None)
    return [str(entry["module"]) for entry in told] if isinstance(told, list) else []
