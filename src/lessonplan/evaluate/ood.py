"""Out-of-distribution detection by the maximum softmax probability (arXiv:1610.02136)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lessonplan.errors import DataError
from lessonplan.evaluate.network import own_generator


@dataclass(frozen=True)
class OODMetrics:
    """How well scores tell in-distribution samples from others; in-distribution is the positive class.

    Attributes:
        tnr_at_tpr95: share of the others that are refused when at least 95% of the in-distribution samples
            are accepted.
        auroc: area under the ROC curve; a tie counts half.
        detection_accuracy: largest mean of the two classes' accuracies over all thresholds.
    """

    tnr_at_tpr95: float
    auroc: float
    detection_accuracy: float


def max_softmax(logits: Tensor) -> Tensor:
    """The largest probability of each row of logits ``(N, C)``, ``(N,)`` float64 in [1/C, 1].

    >>> max_softmax(torch.zeros(1, 4))
    tensor([0.2500], dtype=torch.float64)
    """
    return logits.double().softmax(1).amax(1)


def ood_metrics(in_distribution: Tensor, out_of_distribution: Tensor) -> OODMetrics:
    """Compare scores, higher meaning more in-distribution (lecture's table; definitions as in arXiv:1807.03888).

    Args:
        in_distribution: scores ``(N,)`` of samples like the training data, the positive class.
        out_of_distribution: scores ``(M,)`` of the others.

    Raises:
        DataError: no scores, or scores that are not finite.

    >>> ood_metrics(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.85]))
    OODMetrics(tnr_at_tpr95=0.5, auroc=0.75, detection_accuracy=0.75)
    """
    from sklearn.metrics import auc, roc_curve

    if len(in_distribution) == 0 or len(out_of_distribution) == 0:
        raise DataError("a detector needs scores of both kinds: give at least one in- and one out-of-distribution")
    scores = torch.cat([in_distribution.double().cpu(), out_of_distribution.double().cpu()]).numpy()
    if not np.isfinite(scores).all():
        raise DataError("some scores are NaN or infinite: look at the network's outputs first")
    positive = np.arange(len(scores)) < len(in_distribution)
    # Every threshold is kept: dropping collinear points could drop the one at 95%.
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    first = int(np.argmax(tpr >= 0.95))
    return OODMetrics(
        tnr_at_tpr95=float(1.0 - fpr[first]),
        auroc=float(auc(fpr, tpr)),
        detection_accuracy=float(((tpr + 1.0 - fpr) / 2.0).max()),
    )


def ood_report(in_distribution: Tensor, sets: Mapping[str, Tensor]) -> dict[str, OODMetrics]:
    """``ood_metrics`` against each of several sets, and their average under ``"mean"``.

    Args:
        in_distribution: scores ``(N,)``.
        sets: scores of each out-of-distribution set by name; each set counts the same whatever its size.
    """
    if not sets or "mean" in sets:
        raise DataError("give at least one out-of-distribution set, and none by the name of 'mean'")
    found = {name: ood_metrics(in_distribution, scores) for name, scores in sets.items()}
    values = list(found.values())
    found["mean"] = OODMetrics(
        tnr_at_tpr95=float(np.mean([v.tnr_at_tpr95 for v in values])),
        auroc=float(np.mean([v.auroc for v in values])),
        detection_accuracy=float(np.mean([v.detection_accuracy for v in values])),
    )
    return found


def uniform_noise(n: int, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """``n`` images of a shape whose pixels are uniform in [0, 1]; None starts a generator from seed 0."""
    return _draw(n, shape, generator, torch.rand)


def gaussian_noise(n: int, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """``n`` images whose pixels are normal with mean .5 and deviation 1, cut to [0, 1] (arXiv:1706.02690, 4.2)."""
    return _draw(n, shape, generator, torch.randn).add_(0.5).clamp_(0.0, 1.0)


def _draw(n: int, shape: tuple[int, ...], generator: torch.Generator | None, law: Callable[..., Tensor]) -> Tensor:
    if n < 1:
        raise DataError(f"{n} images of noise: ask for at least one")
    generator = own_generator(generator)
    return law((n, *shape), generator=generator, device=generator.device)
