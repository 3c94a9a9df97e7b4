"""In the place of ``torchvision.transforms.v2.MixUp`` and ``CutMix``, argument by argument.

Arguments, and what is found in an input, are those of torchvision 0.28; torchvision is not needed. What differs:

- partners are drawn (torchvision mixes each sample with its neighbour, and says that this is no promise);
- numbers come from a generator of their own (``.mix.state_dict()``), which differs between workers and ranks;
  torchvision's come from the global one;
- images of bytes become float32 (torchvision's ``MixUp`` refuses them, its ``CutMix`` keeps bytes);
- one batch of images is mixed: two in one input are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from lessonplan import mix as m
from lessonplan.errors import ConfigError

__all__ = ["CutMix", "MixUp"]

_REFUSED = ("BoundingBoxes", "Mask", "KeyPoints")


class _Drop:
    def __init__(self, mix: m.Mix, labels_getter: Callable[[Any], Any] | str) -> None:
        if labels_getter != "default" and not callable(labels_getter):
            raise ConfigError(f"labels_getter={labels_getter!r}: give 'default' or a function of the input")
        self.mix = mix
        self._labels = labels_getter if callable(labels_getter) else _find_labels

    def __call__(self, *inputs: Any) -> Any:
        """Mix the images and labels of an input of any structure; everything else stays as it is.

        Raises:
            ConfigError: no labels or no images are found, or see ``lessonplan.mix.Mix``.
        """
        given = inputs if len(inputs) > 1 else inputs[0]
        labels = self._labels(given)
        if not isinstance(labels, Tensor):
            raise ConfigError(f"{self} found labels of type {type(labels).__name__}: give a tensor (N,) or (N, C)")
        leaves, structure = tree_flatten(given)
        images = _find_images(leaves, labels)
        x, target = self.mix(images.as_subclass(Tensor), labels if labels.ndim == 1 else labels.float())
        kinds = sys.modules.get("torchvision.tv_tensors")
        if kinds is not None and type(images) is not Tensor:
            x = kinds.wrap(x, like=images)
        changed = {id(images): x, id(labels): target}
        return tree_unflatten([changed.get(id(leaf), leaf) for leaf in leaves], structure)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mix})"


class MixUp(_Drop):
    """mixup in the place of ``torchvision.transforms.v2.MixUp``; see this module's first lines.

    Args:
        alpha: of Beta(alpha, alpha), above 0.
        num_classes: C; needed for integer labels.
        labels_getter: ``"default"`` takes the second input, or what a dictionary (the input or its second part)
            has under a name with "label"; or a function from the input to the labels.
        seed, reuse: see ``lessonplan.mix.Mix``.

    >>> import torch
    >>> x, target = MixUp(num_classes=3)(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    >>> target.shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        num_classes: int | None = None,
        labels_getter: Callable[[Any], Any] | str = "default",
        seed: int | None = None,
        reuse: bool = False,
    ) -> None:
        super().__init__(m.Mixup(alpha, num_classes, seed=seed, reuse=reuse), labels_getter)


class CutMix(_Drop):
    """CutMix in the place of ``torchvision.transforms.v2.CutMix``; see this module's first lines.

    Args:
        alpha: of Beta(alpha, alpha), above 0.
        num_classes: C; needed for integer labels.
        labels_getter: see ``MixUp``.
        seed, reuse: see ``lessonplan.mix.Mix``.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        num_classes: int | None = None,
        labels_getter: Callable[[Any], Any] | str = "default",
        seed: int | None = None,
        reuse: bool = False,
    ) -> None:
        super().__init__(m.CutMix(alpha, num_classes, seed=seed, reuse=reuse), labels_getter)


def _find_labels(given: Any) -> Any:
    where = given[1] if isinstance(given, (tuple, list)) and len(given) > 1 else given
    if isinstance(where, Tensor):
        return where
    if isinstance(where, Mapping):
        names = [name for name in where if isinstance(name, str) and "label" in name.lower()]
        names.sort(key=lambda name: name.lower() != "labels")
        if names:
            return where[names[0]]
    raise ConfigError(
        "no labels were found: give (images, labels), a dictionary with a name like 'labels', or labels_getter=..."
    )


def _find_images(leaves: list[Any], labels: Tensor) -> Tensor:
    """The batch of images: marked as images or video, or else the first plain tensor that is not the labels."""
    kinds = [type(leaf).__name__ for leaf in leaves]
    for kind, leaf in zip(kinds, leaves, strict=True):
        if kind in _REFUSED or type(leaf).__module__.startswith("PIL."):
            raise ConfigError(f"{kind} cannot be mixed: give batches of images as tensors, and their labels")
    marked = [leaf for leaf, kind in zip(leaves, kinds, strict=True) if kind in ("Image", "Video")]
    plain = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf is not labels]
    if len(marked) > 1:
        raise ConfigError(f"the input has {len(marked)} batches of images: give one")
    found: list[Tensor] = marked or plain
    if not found or found[0].ndim not in (4, 5) or len(found[0]) != len(labels):
        said = tuple(found[0].shape) if found else "nothing"
        raise ConfigError(
            f"{said} found where images were sought: give a batch (N, C, H, W) for {len(labels)} labels"
        )
    return found[0]
