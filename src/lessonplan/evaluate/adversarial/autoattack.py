"""AutoAttack, the parameter-free ensemble, as an extra (Croce and Hein 2020, arXiv:2003.01690)."""

from __future__ import annotations

import importlib
import sys
from typing import Literal

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.evaluate.adversarial.attacks import Perturbed
from lessonplan.evaluate.adversarial.pixels import check_eps, check_pixels
from lessonplan.evaluate.network import check_logits, class_labels
from lessonplan.network.accelerator import accelerators_of
from lessonplan.network.untouched import frozen

_TARGETS = 9  # wrong classes that the targeted attacks try, as the authors set it


def autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    version: Literal["standard", "rand"] = "standard",
    batch_size: int = 250,
    seed: int = 0,
) -> Perturbed:
    """Run AutoAttack in the L-infinity ball; needs ``pip install lessonplan[autoattack]``.

    Args:
        model: gives logits ``(N, C)`` for images in [0, 1], C at least 4 (its targeted loss needs them).
        x: images ``(N, C, H, W)`` in [0, 1].
        y: true labels ``(N,)``.
        eps: largest change of a pixel, in [0, 1].
        version: ``"standard"``, or ``"rand"`` for randomised defences.
        batch_size: images attacked at a time.
        seed: of its random starts; the global generators are left as they were.

    Returns:
        images and flags as our attacks give them; here a flag means no gradient at the original image.

    Raises:
        ConfigError: the package is missing, or an option or the model does not suit it.
        DataError: images outside [0, 1], labels that do not fit.
    """
    y = class_labels(x, y)
    check_eps(eps)
    check_pixels(x)
    if version not in ("standard", "rand"):
        raise ConfigError(f"version={version!r}: give standard, or rand for randomised defences")
    try:
        package = importlib.import_module("pyautoattack")
    except ImportError:
        raise ConfigError("AutoAttack is not installed: pip install lessonplan[autoattack]") from None
    trace = sys.gettrace()
    devices = accelerators_of([x.device])
    with frozen(model), torch.inference_mode(False), torch.random.fork_rng(devices=devices):
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            logits = model(leaf)
            check_logits(logits, y)
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y, reduction="sum"), leaf)
        classes = logits.shape[1]
        if classes < 4:
            raise ConfigError(
                f"AutoAttack needs at least 4 classes, the model has {classes}: use pgd with loss='margin'"
            )
        attack = package.AutoAttack(model, eps=eps, norm="Linf", seed=seed, version=version, device=x.device)
        for targeted in (attack.apgd_targeted, attack.fab):
            targeted.n_target_classes = min(_TARGETS, classes - 1)
        try:
            images, _ = attack.run_standard_evaluation(x.detach(), y, batch_size=batch_size)
        finally:
            sys.settrace(trace)  # it switches tracing off, debuggers and coverage included
    return Perturbed(images, ~gradient.flatten(1).any(1))
