"""What a network does between training samples: the lecture's two figures on mixup (arXiv:1710.09412, fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.errors import ConfigError, DataError
from lessonplan.evaluate.network import Progress, check_logits, class_labels, own_generator
from lessonplan.mix.functional import soft_targets
from lessonplan.network.accelerator import device_of
from lessonplan.network.untouched import frozen

GradientOf = Literal["loss", "logits"]


@dataclass(frozen=True)
class Between:
    """At one mixing ratio.

    Attributes:
        lam: the first sample's share.
        miss: share of mixtures whose predicted class is neither of the two labels, in [0, 1].
        gradient_norm: mean L2 norm of the gradient with respect to the mixture.
    """

    lam: float
    miss: float
    gradient_norm: float


def between_samples(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    lams: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *,
    pairs: int = 1000,
    of: GradientOf = "loss",
    batch_size: int = 256,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> list[Between]:
    """Predict and differentiate at ``lam * x_i + (1 - lam) * x_j`` for random pairs, the same at each ratio.

    Args:
        model: gives logits ``(N, C)``.
        x: training samples ``(N, ...)`` as the network takes them, at least two.
        y: their labels ``(N,)``.
        lams: ratios in [0, 1].
        pairs: how many pairs of different samples are drawn.
        of: what is differentiated; see ``input_gradient_norm``. The loss is taken against the mixed label.
        batch_size: mixtures at a time.
        generator: where pairs are drawn from; None starts one from seed 0.
        progress: hears how many mixtures were just looked at.
    """
    y = class_labels(x, y)
    if len(x) < 2 or pairs < 1:
        raise DataError(f"{pairs} pairs of {len(x)} samples: give at least two samples and one pair")
    if not lams or not all(0.0 <= lam <= 1.0 for lam in lams):
        raise ConfigError(f"lams={list(lams)}: give ratios in [0, 1]")
    generator, device = own_generator(generator), device_of(model, x)
    first = torch.randint(len(x), (pairs,), generator=generator, device=generator.device)
    shift = torch.randint(1, len(x), (pairs,), generator=generator, device=generator.device)
    second = (first + shift) % len(x)
    found = []
    for lam in lams:
        missed, norms = 0, []
        for i, j in zip(first.split(batch_size), second.split(batch_size), strict=True):
            i, j = i.to(x.device), j.to(x.device)
            mixed = torch.lerp(x[j], x[i], lam).to(device)
            yi, yj = (y[k.to(y.device)].to(device) for k in (i, j))
            logits, norm = _gradient_norm(model, mixed, yi, yj, lam, of)
            predicted = logits.argmax(1)
            missed += int(((predicted != yi) & (predicted != yj)).sum())
            norms.append(norm.double().cpu())
            if progress is not None:
                progress(len(mixed))
        found.append(Between(lam, missed / pairs, torch.cat(norms).mean().item()))
    return found


def input_gradient_norm(model: nn.Module, x: Tensor, y: Tensor, *, of: GradientOf = "loss") -> Tensor:
    """L2 norm of the gradient with respect to each input, ``(N,)``.

    Args:
        model: gives logits ``(N, C)``.
        x: inputs ``(N, ...)`` as the network takes them.
        y: labels ``(N,)``.
        of: ``"loss"``, the cross-entropy of each sample; or ``"logits"``, the Frobenius norm of the Jacobian of
            all logits, which no label enters and which costs C backward passes.

    >>> linear = nn.Linear(2, 3, bias=False)
    >>> _ = nn.init.ones_(linear.weight)
    >>> input_gradient_norm(linear, torch.zeros(1, 2), torch.tensor([0]), of="logits")  # sqrt(6)
    tensor([2.4495])
    """
    y = class_labels(x, y)
    return _gradient_norm(model, x, y, y, 1.0, of)[1]


def _gradient_norm(
    model: nn.Module, x: Tensor, y1: Tensor, y2: Tensor, lam: float, of: GradientOf
) -> tuple[Tensor, Tensor]:
    """Logits, and gradient norms against the label ``lam * y1 + (1 - lam) * y2``."""
    if of not in ("loss", "logits"):
        raise ConfigError(f"of={of!r}: give loss or logits")
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        leaf = x.detach().clone().requires_grad_()
        logits: Tensor = model(leaf)
        check_logits(logits, y1)
        check_logits(logits, y2)
        if of == "loss":
            classes = logits.shape[1]
            target = torch.lerp(soft_targets(y2, classes), soft_targets(y1, classes), lam).to(logits)
            (gradient,) = torch.autograd.grad(F.cross_entropy(logits, target, reduction="sum"), leaf)
            return logits.detach(), gradient.flatten(1).norm(dim=1)
        square = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        for output in logits.sum(0):
            (gradient,) = torch.autograd.grad(output, leaf, retain_graph=True)
            square += gradient.flatten(1).square().sum(1)
        return logits.detach(), square.sqrt()
