"""Where an image matters to the network: gradients of the loss with respect to the input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.network.network import Network


def input_gradient(network: Network, x: Tensor, target: Tensor, clean_weight: float = 0.0) -> Tensor:
    """Gradient of the mean loss with respect to the input, from one forward and one backward pass.

    Args:
        network: the network and its loss.
        x: inputs ``(N, ...)``, floating point; left as they are.
        target: soft targets ``(N, C)``.
        clean_weight: above 0, ``clean_weight`` times the gradient with respect to the weights is added to
            their ``.grad`` by the same backward pass, and the network runs in the mode it is in. At 0 no
            gradient of a weight is computed, and the network runs in evaluation mode, so that neither batch
            statistics nor dropout notice the pass.

    Returns:
        Tensor like ``x``; its scale is that of the loss after ``network.scale`` (and ``clean_weight``).

    Raises:
        ConfigError: gradients are switched off for good (inference mode), or none arrive at the input.
    """
    if torch.is_inference_mode_enabled():
        raise ConfigError("saliency needs gradients, which inference mode forbids: mix outside of it")
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        if clean_weight > 0:
            loss = network.scale(clean_weight * network.loss(network.logits(leaf), target).mean())
            _require_path(loss)
            loss.backward()
        else:
            with _only_looking(network.module):
                loss = network.scale(network.loss(network.logits(leaf), target).mean())
                _require_path(loss)
                (leaf.grad,) = torch.autograd.grad(loss, leaf, allow_unused=True)
    if leaf.grad is None:
        raise ConfigError("no gradient arrives at the input: the network must depend on it differentiably")
    return leaf.grad


def saliency_map(gradient: Tensor) -> Tensor:
    """Root of the channels' mean squared gradient, ``(N, C, H, W)`` to ``(N, H, W)`` float32 (Puzzle Mix, 3.1).

    >>> saliency_map(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)) ** 2
    tensor([[[12.5000]]])
    """
    gradient = gradient.float()
    # Tiny gradients (a scaled loss in half precision, a certain network) must not vanish when squared.
    peak = gradient.abs().amax((1, 2, 3), keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
    return (gradient / peak).square().mean(1).sqrt() * peak.squeeze(1)


def block_saliency(saliency: Tensor, n: int) -> Tensor:
    """Average over the n x n blocks, scaled to sum 1 an image; without any saliency all blocks are alike.

    Args:
        saliency: ``(N, H, W)``, not negative; n divides H and W.
        n: blocks along each side.

    Returns:
        Tensor ``(N, n, n)``.

    >>> block_saliency(torch.tensor([[[1.0, 1.0], [0.0, 2.0]]]), 2)
    tensor([[[0.2500, 0.2500],
             [0.0000, 0.5000]]])
    """
    height, width = saliency.shape[-2:]
    blocks = F.avg_pool2d(saliency.unsqueeze(1), (height // n, width // n)).squeeze(1)
    total = blocks.sum((1, 2), keepdim=True)
    return torch.where(total == 0, torch.full_like(blocks, 1.0 / n**2), blocks / total)


def _require_path(loss: Tensor) -> None:
    if not loss.requires_grad:
        raise ConfigError("the network's output carries no gradient (is it under no_grad?): saliency needs one")


@contextmanager
def _only_looking(module: nn.Module) -> Iterator[None]:
    """The network in evaluation mode with its weights fixed; both as before afterwards."""
    training = [m for m in module.modules() if m.training]
    weights = [p for p in module.parameters() if p.requires_grad]
    try:
        for m in training:
            m.training = False
        for p in weights:
            p.requires_grad_(False)
        yield
    finally:
        for m in training:
            m.training = True
        for p in weights:
            p.requires_grad_(True)
