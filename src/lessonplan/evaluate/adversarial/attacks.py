"""FGSM, BIM, MIM and PGD in the L-infinity ball, untargeted, on images in [0, 1]."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.errors import ConfigError, unknown
from lessonplan.evaluate.adversarial.pixels import check_eps, check_pixels
from lessonplan.evaluate.network import check_logits, class_labels, own_generator
from lessonplan.network.untouched import frozen

Loss = Literal["cross-entropy", "margin"]
_HALF = (torch.float16, torch.bfloat16)


class Perturbed(NamedTuple):
    """What an attack found.

    Attributes:
        images: ``(N, ...)`` in [0, 1], no pixel further than eps from its original.
        no_gradient: ``(N,)`` bool, true where the gradient was exactly zero in every step: the attack had no
            direction, so that a right prediction there says nothing about robustness.
    """

    images: Tensor
    no_gradient: Tensor


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Best wrong logit minus the true one, ``(N,)``; positive where the prediction is wrong.

    Unlike cross-entropy it has a gradient however sure the network is (Carlini and Wagner 2017, f6).

    >>> margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    labels = y.long().unsqueeze(1)
    true = logits.gather(1, labels)
    rest = logits.scatter(1, labels, -torch.inf)
    return rest.amax(1) - true.squeeze(1)


def fgsm(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, *, loss: Loss = "cross-entropy", draws: int = 1
) -> Perturbed:
    """One step of length eps along the gradient's sign (Goodfellow et al. 2015, arXiv:1412.6572).

    Args:
        model: gives logits ``(N, C)`` for images in [0, 1]; see ``PixelModel``.
        x: images ``(N, ...)`` in [0, 1].
        y: true labels ``(N,)``, integer.
        eps: largest change of a pixel, in [0, 1]: 8/255, not 8.
        loss: what is maximised: cross-entropy, or the ``margin``, which never saturates.
        draws: passes the gradient is averaged over, for models that draw random numbers (expectation over
            transformation, arXiv:1802.00420).

    Raises:
        DataError: images outside [0, 1], labels that do not fit.
        ConfigError: eps in another unit, a model that gives probabilities, an option out of range.
    """
    return bim(model, x, y, eps, steps=1, step_size=eps, loss=loss, draws=draws)


def bim(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: int = 10,
    step_size: float | None = None,
    loss: Loss = "cross-entropy",
    draws: int = 1,
) -> Perturbed:
    """The basic iterative method, I-FGSM: small steps from the image itself (Kurakin et al., arXiv:1607.02533).

    Args:
        steps: gradient steps, 1 or more.
        step_size: length of a step; None: eps / steps, so that the ball's border can just be reached.

    The others, and errors, are those of ``fgsm``.
    """
    climb = _Climb(model, x, y, eps, loss, draws)
    return climb.run(steps, eps / max(steps, 1) if step_size is None else step_size)


def mim(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    loss: Loss = "cross-entropy",
    draws: int = 1,
) -> Perturbed:
    """The momentum iterative method (Dong et al. 2018, arXiv:1710.06081, algorithm 1).

    Args:
        decay: the momentum's factor mu, 0 or more; gradients are divided by their mean absolute value before
            they are added, as the sign does not see the difference to the paper's sum.

    The others are those of ``bim``.
    """
    if not decay >= 0.0:
        raise ConfigError(f"decay={decay}: give a momentum factor of at least 0")
    climb = _Climb(model, x, y, eps, loss, draws)
    return climb.run(steps, eps / max(steps, 1) if step_size is None else step_size, decay=decay)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = "cross-entropy",
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Perturbed:
    """Projected gradient descent from random points of the ball (Madry et al. 2018, arXiv:1706.06083).

    Args:
        steps: gradient steps, 1 or more.
        step_size: length of a step; None: eps / 4.
        restarts: random starts of which, for each image, the one with the largest ``margin`` is kept; more
            than 1 costs a further forward pass each.
        random_start: start at a uniformly random point of the ball instead of at the image.
        generator: where starts are drawn from; None starts one from seed 0.

    The others, and errors, are those of ``fgsm``.
    """
    if restarts < 1 or (restarts > 1 and not random_start):
        raise ConfigError(
            f"restarts={restarts} with random_start={random_start}: give at least 1 restart, and random starts"
            " for more than 1"
        )
    climb = _Climb(model, x, y, eps, loss, draws)
    length, generator = eps / 4 if step_size is None else step_size, own_generator(generator)
    best = climb.run(steps, length, climb.random_point(generator) if random_start else None)
    if restarts == 1:
        return best
    reached = climb.margin(best.images)
    for _ in range(restarts - 1):
        found = climb.run(steps, length, climb.random_point(generator))
        height = climb.margin(found.images)
        images = torch.where((height > reached).view(-1, *(1,) * (x.ndim - 1)), found.images, best.images)
        best = Perturbed(images, best.no_gradient & found.no_gradient)
        reached = torch.maximum(reached, height)
    return best


class _Climb:
    """Sign-gradient ascent on a loss inside the L-infinity ball around a batch."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, eps: float, loss: Loss, draws: int) -> None:
        y = class_labels(x, y)
        check_eps(eps)
        check_pixels(x)
        if loss not in ("cross-entropy", "margin"):
            raise unknown("loss of an attack", str(loss), ("cross-entropy", "margin"))
        if draws < 1:
            raise ConfigError(f"draws={draws}: average the gradient over at least 1 draw")
        self.model, self.eps, self.loss, self.draws = model, eps, loss, draws
        with torch.inference_mode(False):  # tensors made in inference mode could not be differentiated
            # Half precision loses the gradient's sign where it is small.
            self.x = x.detach().float() if x.dtype in _HALF else x.detach().clone()
            self.y = y.clone()
            self.low, self.high = (self.x - eps).clamp_(min=0.0), (self.x + eps).clamp_(max=1.0)
        self.checked = False

    def random_point(self, generator: torch.Generator) -> Tensor:
        """A uniformly random point of the ball, cut to [0, 1]."""
        u = torch.rand(self.x.shape, generator=generator, device=generator.device, dtype=self.x.dtype)
        return (self.x + (2 * u - 1).mul_(self.eps).to(self.x.device)).clamp_(0.0, 1.0)

    def run(self, steps: int, length: float, start: Tensor | None = None, decay: float | None = None) -> Perturbed:
        """Climb from a point (None: the images); with ``decay`` along the gathered momentum."""
        if steps < 1 or not length >= 0.0:
            raise ConfigError(f"steps={steps} of length {length}: give at least 1 step and a length of at least 0")
        with torch.inference_mode(False), frozen(self.model):
            now = self.x if start is None else start
            blind = torch.ones(len(now), dtype=torch.bool, device=now.device)
            momentum = torch.zeros_like(now)
            for _ in range(steps):
                direction = self.gradient(now)
                blind &= ~direction.flatten(1).any(1)
                if decay is not None:
                    size = direction.abs().mean(tuple(range(1, now.ndim)), keepdim=True)
                    # A gradient of zeros adds nothing, instead of 0 / 0.
                    momentum = momentum * decay + direction / size.clamp(min=torch.finfo(size.dtype).tiny)
                    direction = momentum
                now = torch.add(now, direction.sign(), alpha=length).clamp_(self.low, self.high)
        return Perturbed(now, blind)

    def gradient(self, x: Tensor) -> Tensor:
        """The loss' gradient with respect to the images, summed over the draws."""
        total: Tensor | None = None
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            for _ in range(self.draws):
                leaf = x.detach().clone().requires_grad_()
                logits = self.look_at(leaf)
                heights = (
                    margin(logits, self.y)
                    if self.loss == "margin"
                    else F.cross_entropy(logits, self.y, reduction="none")
                )
                (part,) = torch.autograd.grad(heights.sum(), leaf)
                total = part if total is None else total + part
        assert total is not None
        return total

    @torch.no_grad()
    def margin(self, x: Tensor) -> Tensor:
        """The margin of images, averaged over the draws."""
        with frozen(self.model), torch.autocast(x.device.type, enabled=False):
            return torch.stack([margin(self.model(x), self.y) for _ in range(self.draws)]).mean(0)

    def look_at(self, x: Tensor) -> Tensor:
        """The network's logits, of which the first are checked."""
        try:
            logits: Tensor = self.model(x)
        except RuntimeError as error:
            half = {weight.dtype for weight in self.model.parameters()} & set(_HALF)
            if not half or x.dtype in half:
                raise
            raise ConfigError(
                f"the network's weights are {half.pop()}, in which gradients lose their sign, and attacks run in"
                f" {x.dtype}: give model.float()"
            ) from error
        if self.checked:
            return logits
        check_logits(logits, self.y)
        if not logits.requires_grad:
            raise ConfigError(
                "the model's output has no gradient with respect to its input: attack a differentiable model,"
                " or craft the images on another one (source=...)"
            )
        self.checked = True
        return logits
