"""Losses, accuracies, calibration and the parameters' norm, from logits and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lessonplan.confusion import class_scores, scores_of
from lessonplan.errors import ConfigError

_QUANTILES = {"loss_q50": 0.5, "loss_q90": 0.9, "loss_q99": 0.99}
_BELIEF_QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}
_BELIEF_DIGITS = 5  # a curve shows no more, and a line an epoch holds many
_CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """How often predictions of a confidence are right, in equal bins of confidence.

    Attributes:
        count: predictions in each bin; bin i of B holds confidences from i / B to (i + 1) / B.
        confidence: their mean confidence in [0, 1]; None in an empty bin.
        accuracy: the share of them that is right; None in an empty bin.
    """

    count: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


def loss_summary(losses: Tensor) -> dict[str, float]:
    """Mean, best, worst and quantiles of ``(N,)`` losses (ASSIST section 4.1).

    >>> loss_summary(torch.tensor([1.0, 2.0, 6.0]))["loss_worst"]
    6.0
    """
    ordered = _ordered(losses)
    return {
        "loss": float(ordered.mean()),
        "loss_best": float(ordered[0]),
        "loss_worst": float(ordered[-1]),
        **{name: _quantile(ordered, q) for name, q in _QUANTILES.items()},
    }


def belief_summary(logits: Tensor) -> dict[str, float]:
    """How sure a network is: quantiles of its confidence and of its margin over the samples of ``(N, C)`` logits.

    Confidence is the highest probability, the margin by how much it leads the second (the gap of the top two,
    which ASSIST's soft filter looks at, section 3.2.1 and figure 8). Of each the .1, .5 and .9 quantile, as
    ``confidence_q10`` and so on, in [0, 1], to five decimals.

    >>> found = belief_summary(torch.tensor([[0.75, 0.25], [0.9, 0.1], [0.5, 0.5]]).log())
    >>> found["confidence_q50"], found["margin_q50"]
    (0.75, 0.5)
    """
    top = logits.double().softmax(1).topk(min(2, logits.shape[1]), dim=1).values
    confidence = top[:, 0]
    margin = confidence - top[:, 1] if top.shape[1] > 1 else confidence
    return {
        f"{name}_{suffix}": round(_quantile(values, q), _BELIEF_DIGITS)
        for name, values in (("confidence", _ordered(confidence)), ("margin", _ordered(margin)))
        for suffix, q in _BELIEF_QUANTILES.items()
    }


def _class_labels(labels: Tensor, outputs: Tensor) -> Tensor:
    """The labels as ``(N,)`` int64 where the outputs ``(N, C)`` are.

    Raises:
        ConfigError: they are the soft targets of a mix, of another shape, or no classes of the outputs.
    """
    if outputs.ndim != 2:
        raise ConfigError(f"outputs of shape {tuple(outputs.shape)}: a metric needs a row a sample, (N, C)")
    if labels.ndim != 1 or labels.is_floating_point():
        raise ConfigError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype}: a metric needs the classes, integers"
            " (N,); judge what was not mixed, or give target.argmax(1)"
        )
    if not len(labels):
        raise ConfigError("there is no sample to judge: give at least one")
    samples, classes = outputs.shape
    if len(labels) != samples:
        raise ConfigError(f"{len(labels)} labels came with {samples} outputs: give as many of one as of the other")
    labels = labels.to(outputs.device, torch.int64)  # of bytes, a row of the confusion matrix would overflow
    low, high = (int(value) for value in torch.aminmax(labels))
    if low < 0 or high >= classes:
        raise ConfigError(
            f"labels go from {low} to {high}, but there are {classes} outputs: give 0 to {classes - 1}"
        )
    return labels


def _ordered(values: Tensor) -> NDArray[np.float64]:
    """``(N,)`` values, the smallest first, where looking at one of them is neither an operation nor a wait."""
    if not len(values):
        raise ConfigError("there is no sample to judge: give at least one")
    return np.sort(values.detach().cpu().double().numpy())


def _quantile(ordered: NDArray[np.float64], q: float) -> float:
    """Of sorted ``(N,)`` values, linear between two; ``np.quantile`` would sort them again for each ``q``."""
    last = len(ordered) - 1
    low = int(q * last)
    below, above = float(ordered[low]), float(ordered[min(low + 1, last)])
    return below + (q * last - low) * (above - below)


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracies, macro F1, cross-entropy losses and beliefs of logits ``(N, C)`` against labels ``(N,)``.

    Balanced accuracy and macro F1 are scikit-learn's (``lessonplan.confusion.ClassScores``); they are made of
    counts a class, so that they cost nothing beside the losses however many classes there are.
    """
    labels = _class_labels(labels, logits)
    losses = F.cross_entropy(logits.double(), labels, reduction="none")
    predicted, classes = logits.argmax(1), logits.shape[1]
    correct = predicted == labels
    counts = [torch.bincount(of, minlength=classes).tolist() for of in (labels[correct], labels, predicted)]
    scores = class_scores(*counts)
    accuracy = correct.double().mean().item()
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices
    top5 = (top == labels.unsqueeze(1)).any(1).double().mean().item()
    return {
        "accuracy": accuracy,
        **loss_summary(losses),
        "top5": top5,
        "balanced_accuracy": scores.balanced_accuracy,
        "macro_f1": scores.macro_f1,
        **belief_summary(logits),
    }


def detailed_metrics(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """As ``classification_metrics``, with calibration, confusion matrix, and each class' accuracy and scores.

    The confusion matrix has a row for each true class and a column for each predicted one; ``per_class`` holds
    what ``lessonplan.confusion.ClassScores`` does, ``reliability`` what ``Reliability`` does.
    """
    labels, predicted = _class_labels(labels, logits), logits.argmax(1)
    classes = logits.shape[1]
    confusion = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
    counts = confusion.sum(1)
    per_class = confusion.diagonal().double() / counts.clamp(min=1)
    probabilities = logits.double().softmax(1)
    return {
        **classification_metrics(logits, labels),
        "calibration_error": calibration_error(probabilities, labels),
        "reliability": asdict(reliability(probabilities, labels)),
        "per_class_accuracy": [v if n else None for v, n in zip(per_class.tolist(), counts.tolist(), strict=True)],
        "per_class": asdict(scores_of(confusion.tolist())),
        "confusion": confusion.tolist(),
    }


def reliability(probabilities: Tensor, labels: Tensor, bins: int = _CALIBRATION_BINS) -> Reliability:
    """Predictions sorted into equal bins of confidence (arXiv:1706.04599, section 2).

    Args:
        probabilities: ``(N, C)``, rows summing to 1.
        labels: ``(N,)``.
        bins: how many, 1 or more.

    >>> reliability(torch.tensor([[0.8, 0.2], [0.7, 0.3]]), torch.tensor([0, 1]), bins=2)
    Reliability(count=[0, 2], confidence=[None, 0.75], accuracy=[None, 0.5])
    """
    count, confidence, correct = _binned(probabilities, labels, bins)
    return Reliability(
        [int(n) for n in count.tolist()],
        [c / n if n else None for c, n in zip(confidence.tolist(), count.tolist(), strict=True)],
        [c / n if n else None for c, n in zip(correct.tolist(), count.tolist(), strict=True)],
    )


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = _CALIBRATION_BINS) -> float:
    """Expected calibration error over equal bins of confidence (arXiv:1706.04599, eq. 3).

    >>> calibration_error(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1]))  # |.5 - .8|
    0.3...
    """
    _, confidence, correct = _binned(probabilities, labels, bins)
    return float((correct - confidence).abs().sum() / len(labels))


def parameter_norm(model: nn.Module) -> float:
    """L2 norm over all parameters (thesis figures 3.5 and 3.7)."""
    with torch.no_grad():
        return norm_of_all(list(model.parameters()))


def norm_of_all(values: Sequence[Tensor]) -> float:
    """L2 norm over tensors of any shape, complex ones too; call it where no gradients are kept."""
    reals = [torch.view_as_real(value) if value.is_complex() else value for value in values]
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(reals, 2, torch.float64))))


def _binned(probabilities: Tensor, labels: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each bin its count, its sum of confidences and its number of right predictions, ``(bins,)`` float64."""
    if bins < 1:
        raise ConfigError(f"bins={bins}: give at least 1 bin of confidence")
    labels = _class_labels(labels, probabilities)
    confidence, predicted = probabilities.max(1)
    correct = (predicted == labels).double()
    where = (confidence.double() * bins).long().clamp(max=bins - 1)
    zero = torch.zeros(bins, dtype=torch.float64, device=probabilities.device)
    ones = torch.ones(len(labels), dtype=torch.float64, device=probabilities.device)
    return (
        zero.index_add(0, where, ones),
        zero.index_add(0, where, confidence.double()),
        zero.index_add(0, where, correct),
    )
