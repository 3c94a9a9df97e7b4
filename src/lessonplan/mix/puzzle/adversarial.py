"""Puzzle Mix against attacks: a signed step along the gradient that the saliency needs anyway."""

from __future__ import annotations

from torch import Tensor


def adversarial_noise(start: Tensor, gradient: Tensor, eps: float, unit: Tensor) -> Tensor:
    """One step of the fast gradient sign method from a random start, kept within ``eps``.

    Args:
        start: noise that the gradient was taken at, like the images ``(N, C, H, W)``.
        gradient: of the loss with respect to the images.
        eps: largest change of a pixel, in ``unit``; the step itself is ``eps + 2``.
        unit: 1/255 of the way from black to white, ``(1, C, 1, 1)``.

    >>> import torch
    >>> unit = torch.ones(1, 1, 1, 1)
    >>> adversarial_noise(torch.tensor([[[[-9.0, 4.0]]]]), torch.tensor([[[[2.0, 0.1]]]]), 10.0, unit)
    tensor([[[[ 3., 10.]]]])
    """
    limit = eps * unit
    return (start + (eps + 2) * unit * gradient.sign()).clamp(-limit, limit)
