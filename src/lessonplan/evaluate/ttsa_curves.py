"""What copies and the weight of the input buy: the trade-off curves of thesis section 3.6."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.evaluate.defence import RandomisedDefence
from lessonplan.evaluate.network import Progress, check_logits, class_labels
from lessonplan.evaluate.ttsa import TestTimeSum
from lessonplan.network.untouched import evaluating


@torch.no_grad()
def accuracy_by_copies(
    defence: RandomisedDefence,
    x: Tensor,
    y: Tensor,
    copies: Sequence[int] = (1, 2, 4, 8, 16, 32),
    *,
    progress: Progress | None = None,
) -> dict[int, float]:
    """Accuracy after each number of copies, for the price of the largest: the first copies are shared.

    Args:
        defence: ``TestTimeSum`` or ``MixupInference``; its own number of copies plays no part.
        x: inputs ``(N, ...)``; adversarial ones give the curve of robustness.
        y: labels ``(N,)``.
        copies: numbers of copies, 1 or more.
        progress: hears of every sample passed through the network.

    Returns:
        the share of right predictions in [0, 1] by number of copies, in ascending order.
    """
    y = class_labels(x, y)
    wanted = sorted(set(copies))
    if not wanted or wanted[0] < 1:
        raise ConfigError(f"copies={list(copies)}: give numbers of copies of at least 1")
    found: dict[int, float] = {}
    total, done = torch.zeros(0), 0
    with evaluating(defence):
        for group in defence.with_copies(wanted[-1]).passes(x, progress):
            for logits in group.cpu():
                part = logits if defence.of == "logits" else logits.softmax(1)
                total, done = (part.double(), 1) if done == 0 else (total + part, done + 1)
                if done == 1:
                    check_logits(logits, y)
                if done in wanted:
                    found[done] = (total.argmax(1) == y.cpu()).double().mean().item()
    return found


@torch.no_grad()
def accuracy_by_weight(
    defence: TestTimeSum,
    x: Tensor,
    y: Tensor,
    weights: Sequence[float] = (0.5, 1.0, 2.0, 4.0, 8.0),
    *,
    progress: Progress | None = None,
) -> dict[float, float]:
    """Accuracy at each weight lambda of the input; all weights meet the same partners.

    Arguments and result are those of ``accuracy_by_copies``, with ``weights`` above 0.
    """
    y = class_labels(x, y)
    start, found = defence.generator.get_state(), {}
    with evaluating(defence):
        for weight in weights:
            defence.generator.set_state(start)
            curve = accuracy_by_copies(defence.with_weight(weight), x, y, [defence.copies], progress=progress)
            found[weight] = curve[defence.copies]
    return found
