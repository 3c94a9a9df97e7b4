"""Feature-map augmentation: flips and crops of a hidden layer's maps instead of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lessonplan.data.augment import Augment
from lessonplan.errors import ConfigError, require, unknown
from lessonplan.parts.state import Stateful
from lessonplan.seeds import fold_seed


class FeatureMapAugment(Stateful):
    """Flip and crop the feature maps behind a layer that is drawn for each batch (thesis, future work 3).

    All maps of a sample are moved alike, each sample in its own way, and its label stays. (To mix maps of two or
    more samples, labels included, use `lessonplan.mix.ManifoldMixup`.) The maps are changed only while
    ``forward_context`` is open, so evaluation sees the network as it is::

        augment = FeatureMapAugment(model, augment="flip,crop:1")
        with augment.forward_context():
            logits = model(x)

    Args:
        model: the network; it is not changed.
        layers: names of modules that give maps ``(N, C, H, W)``; None is the first two stages of networks that
            name their stages (``stage_names``).
        augment: what is done, as for data: ``"flip"``, ``"crop:1"`` (pixels of the map, reflected at its
            border), ``"flip,crop:1,pad:zeros"``.
        seed: start of the generator, which is part of ``state_dict``.

    Raises:
        ConfigError: an unknown layer, nothing to do, or (in the forward pass) a layer that takes no part or
            whose maps are too small for the crop.
    """

    STATE: ClassVar[tuple[str, ...]] = ("generator",)

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None = None,
        augment: str | Augment = "flip,crop:1",
        seed: int = 0,
    ) -> None:
        self.model = model
        self.layers = _resolve(layers, model)
        self.augment = Augment.parse(augment) if isinstance(augment, str) else augment
        require(
            str(self.augment) != "none" and self.augment.transform is None and not self.augment.resamples,
            f"augment '{self.augment}' cannot be applied to feature maps: give flip, crop:1 or both",
        )
        self.generator = torch.Generator().manual_seed(fold_seed(seed, type(self).__name__))

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """Change the maps of one layer, drawn here, in every forward pass while this context is open."""
        layer = self.layers[self._draw(len(self.layers))]
        fired = False

        def change(module: nn.Module, inputs: Any, output: Any) -> Tensor:
            nonlocal fired
            fired = True
            maps = self._checked(layer, output)
            rows = torch.arange(len(maps), device=maps.device)
            return self.augment(maps, rows, seed=self._draw(2**62), epoch=0)

        with ExitStack() as stack:
            # A compiled network does not see hooks that come and go.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            handle = self.model.get_submodule(layer).register_forward_hook(change)
            stack.callback(handle.remove)
            yield
        if not fired:
            raise ConfigError(
                f"layer {layer!r} took no part in the forward pass: name a layer that the network uses"
            )

    def _draw(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self.generator))

    def _checked(self, layer: str, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ConfigError(f"layer {layer!r} gives {got}: name a layer that gives feature maps (N, C, H, W)")
        try:
            self.augment.check(tuple(output.shape[1:]))
        except ConfigError as error:
            raise ConfigError(f"feature maps behind {layer!r}: {error}") from None
        return output


def _resolve(layers: Sequence[str] | None, model: nn.Module) -> list[str]:
    if layers is None:
        stages = getattr(model, "stage_names", None)
        if not stages:
            raise ConfigError(f"{type(model).__name__} does not name its stages: give layers=..., modules' names")
        return list(stages[:2])
    require(len(layers) > 0, "layers is empty: name at least one")
    known = [name for name, _ in model.named_modules() if name]
    for layer in layers:
        if layer not in known:
            raise unknown("layer", layer, known)
    return list(layers)
