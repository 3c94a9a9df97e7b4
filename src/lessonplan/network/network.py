"""A network as the loop around it uses it: its forward pass, its loss, its scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.network.ranks import ALONE, Ranks

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""``(logits (N, C), target (N, C)) -> loss``, a scalar or one a sample ``(N,)``."""


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each sample against a soft target, ``(N,)``."""
    return F.cross_entropy(logits, target, reduction="none")


def unscaled(loss: Tensor) -> Tensor:
    """The loss as it is, where no gradient scaler is used."""
    return loss


@dataclass(frozen=True)
class Network:
    """A network, and how the loop around it uses it.

    Args:
        module: the network itself, in whose submodules hidden states can be mixed.
        loss: what the loop minimises.
        run: the forward pass as the loop makes it (compiled, under autocast, channels-last); None calls
            ``module``.
        scale: what the loop does to a loss before its backward pass (a gradient scaler).
        ranks: who trains it together; scores of many samples are shared out over them.
    """

    module: nn.Module
    loss: LossFunction = soft_cross_entropy
    run: Callable[[Tensor], Tensor] | None = None
    scale: Callable[[Tensor], Tensor] = unscaled
    ranks: Ranks = ALONE

    def logits(self, x: Tensor) -> Tensor:
        """The forward pass: ``(N, ...)`` to float32 logits ``(N, C)``.

        Raises:
            ConfigError: it gives something else.
        """
        return as_logits((self.run or self.module)(x), len(x))


def logits_among(output: Any) -> Any:
    """The ``logits`` of what a network gives, where it gives more (Hugging Face's do); anything else as it is."""
    if isinstance(output, Tensor):
        return output
    held = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return held if isinstance(held, Tensor) else output


def as_logits(output: Any, samples: int, num_classes: int | None = None) -> Tensor:
    """What a network gave, as float32.

    Args:
        output: of the network; of one that gives more (Hugging Face's do), its ``logits``.
        samples: N.
        num_classes: C, where it is known.

    Raises:
        ConfigError: it is no ``(N, C)``.
    """
    wanted = f"(N, {num_classes if num_classes is not None else 'C'})"
    output = logits_among(output)
    if not isinstance(output, Tensor):
        names = list(output) if isinstance(output, Mapping) else []
        what = f" of {', '.join(map(str, names))}" if names else ""
        raise ConfigError(
            f"the network gives a {type(output).__name__}{what}: wrap it in a module whose forward returns the"
            f" logits {wanted} alone"
        )
    shape = tuple(output.shape)
    if len(shape) != 2 or shape[0] != samples or num_classes not in (None, shape[1]):
        classes = f", for {num_classes} classes" if num_classes is not None else ""
        raise ConfigError(
            f"the network gives {shape} for {samples} samples: it must give logits {wanted}{classes}"
        )
    return output.float()
