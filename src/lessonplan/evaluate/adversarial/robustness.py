"""How many predictions survive an attack: white box, transferred, adaptive, and as a curve over eps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError
from lessonplan.evaluate.adversarial.attacks import Perturbed
from lessonplan.evaluate.adversarial.pixels import check_pixels
from lessonplan.evaluate.defence import RandomisedDefence
from lessonplan.evaluate.network import Progress, check_logits, class_labels
from lessonplan.network.accelerator import device_of
from lessonplan.network.untouched import evaluating

Attack = Callable[[nn.Module, Tensor, Tensor, float], Perturbed]
"""``fgsm``, ``bim``, ``mim``, ``pgd``, or ``functools.partial`` of one with its options set."""

ADAPTIVE_DRAWS = 20


@dataclass(frozen=True)
class Robustness:
    """What an attack left over.

    Attributes:
        accuracy: share of right predictions in [0, 1], averaged over the judgements.
        top5: share with the true class among the first five.
        no_gradient: share of images for which the attack never had a gradient; None for clean images.
        images: number of images.
    """

    accuracy: float
    top5: float
    no_gradient: float | None
    images: int


@dataclass(frozen=True)
class DefenceRow:
    """One attack against a randomised defence; its robustness is at most the smaller of the last two columns.

    Attributes:
        attack: its name; ``"none"`` for clean images.
        undefended: the network alone, attacked through its own gradient.
        transfer: the defence on the very same images: the attacker does not know of it.
        adaptive: the defence attacked through its own gradient, over at least 20 of its own draws.
    """

    attack: str
    undefended: Robustness
    transfer: Robustness
    adaptive: Robustness


def craft(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: Attack,
    eps: float,
    *,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> Perturbed:
    """Attack many images, a batch at a time.

    Args:
        model: whose gradient is used; takes images in [0, 1] and gives logits.
        x: images ``(N, ...)`` in [0, 1].
        y: true labels ``(N,)``.
        attack: what is done.
        eps: largest change of a pixel, in [0, 1].
        batch_size: images attacked at a time.
        progress: hears how many images were just attacked.

    Returns:
        images and gradient flags on the CPU.
    """
    y = class_labels(x, y)
    device, images, blind = device_of(model, x), [], []
    for part, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        found = attack(model, part.to(device), labels.to(device), eps)
        images.append(found.images.cpu())
        blind.append(found.no_gradient.cpu())
        if progress is not None:
            progress(len(part))
    return Perturbed(torch.cat(images), torch.cat(blind))


@torch.no_grad()
def judge(
    model: nn.Module, found: Tensor | Perturbed, y: Tensor, *, judgements: int = 1, batch_size: int = 256
) -> Robustness:
    """How a network does on images, clean or attacked.

    Args:
        model: gives logits; a randomised one draws anew for every judgement.
        found: images ``(N, ...)`` in [0, 1], or what ``craft`` gave.
        y: true labels ``(N,)``.
        judgements: how often each image is predicted; several for randomised models.
        batch_size: images predicted at a time.
    """
    images = found if isinstance(found, Tensor) else found.images
    y = class_labels(images, y)
    check_pixels(images)
    if judgements < 1:
        raise ConfigError(f"judgements={judgements}: predict every image at least once")
    device, right, near = device_of(model, images), 0, 0
    with evaluating(model):
        for part, labels in zip(images.split(batch_size), y.split(batch_size), strict=True):
            part, labels = part.to(device), labels.to(device)
            for _ in range(judgements):
                logits = model(part)
                check_logits(logits, labels)
                first = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels.unsqueeze(1)
                right += int(first[:, 0].sum())
                near += int(first.sum())
    n = len(images)
    blind = None if isinstance(found, Tensor) else found.no_gradient.double().mean().item()
    return Robustness(right / (n * judgements), near / (n * judgements), blind, n)


def robust_accuracy(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: Attack,
    eps: float,
    *,
    source: nn.Module | None = None,
    judgements: int = 1,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> Robustness:
    """Accuracy under an attack.

    Args:
        model: the network that is judged, on images in [0, 1].
        source: the network whose gradient is used; None: ``model`` itself (white box). Another one makes it a
            transfer attack.
        judgements: see ``judge``.

    The others are those of ``craft``.
    """
    found = craft(model if source is None else source, x, y, attack, eps, batch_size=batch_size, progress=progress)
    return judge(model, found, y, judgements=judgements, batch_size=batch_size)


def adaptive_accuracy(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: Attack,
    eps: float,
    *,
    draws: int = ADAPTIVE_DRAWS,
    judgements: int = 5,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> Robustness:
    """Accuracy of a randomised model under an attacker who knows it (arXiv:1802.00420, section 4).

    Every gradient is an expectation over fresh draws of the model's own randomness: for ``TestTimeSum`` and
    ``MixupInference`` the gradient of their prediction from ``max(draws, copies)`` copies; for any other model
    the mean over ``draws`` passes, for which the attack must take ``draws=`` as ours do. The images are then
    judged on ``judgements`` fresh predictions.

    Raises:
        ConfigError: fewer than 20 draws.
    """
    if draws < ADAPTIVE_DRAWS:
        raise ConfigError(
            f"draws={draws}: an adaptive attack averages its gradient over at least {ADAPTIVE_DRAWS} draws"
        )
    source = model
    if isinstance(model, RandomisedDefence):
        source = model.with_copies(max(draws, model.copies))
    else:
        any_attack: Callable[..., Perturbed] = attack
        attack = partial(any_attack, draws=draws)
    return robust_accuracy(
        model, x, y, attack, eps, source=source, judgements=judgements, batch_size=batch_size, progress=progress
    )


def defence_table(
    model: nn.Module,
    defence: nn.Module,
    x: Tensor,
    y: Tensor,
    attacks: Mapping[str, Attack],
    eps: float,
    *,
    draws: int = ADAPTIVE_DRAWS,
    judgements: int = 5,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> list[DefenceRow]:
    """A randomised defence against attackers who do not know it and who do, side by side (cf. thesis table 3.7).

    Args:
        model: the network without its defence, on images in [0, 1].
        defence: the same network behind the defence.
        attacks: by name.
        progress: hears how many images were just attacked, 2 N an attack.

    The others are those of ``adaptive_accuracy``.

    Returns:
        a row of clean images and one for each attack.
    """
    clean, defended = judge(model, x, y), judge(defence, x, y, judgements=judgements, batch_size=batch_size)
    rows = [DefenceRow("none", clean, defended, defended)]
    for name, attack in attacks.items():
        found = craft(model, x, y, attack, eps, batch_size=batch_size, progress=progress)
        rows.append(
            DefenceRow(
                name,
                judge(model, found, y, batch_size=batch_size),
                judge(defence, found, y, judgements=judgements, batch_size=batch_size),
                adaptive_accuracy(
                    defence,
                    x,
                    y,
                    attack,
                    eps,
                    draws=draws,
                    judgements=judgements,
                    batch_size=batch_size,
                    progress=progress,
                ),
            )
        )
    return rows


def robustness_curve(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: Attack,
    eps: Sequence[float] = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255),
    *,
    source: nn.Module | None = None,
    judgements: int = 1,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> dict[float, Robustness]:
    """``robust_accuracy`` at each eps, in units of [0, 1] pixels; step sizes follow eps unless they are set."""
    return {
        e: robust_accuracy(
            model,
            x,
            y,
            attack,
            e,
            source=source,
            judgements=judgements,
            batch_size=batch_size,
            progress=progress,
        )
        for e in eps
    }
