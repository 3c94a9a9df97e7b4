"""Losses, accuracies and calibration over many batches."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.data import View

_QUANTILES = {"loss_q50": 0.5, "loss_q90": 0.9, "loss_q99": 0.99}
_CALIBRATION_BINS = 15


class LossMeter:
    """Losses of single samples and the soft-target accuracy, gathered on the device without waiting for it."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []

    def add(self, losses: Tensor, logits: Tensor, target: Tensor) -> None:
        """Take a batch.

        Args:
            losses: ``(M,)``, or a scalar where the loss function gives no more.
            logits: ``(M, C)``.
            target: ``(M, C)``; a sample scores the share of its target's mass on the predicted class.
        """
        self._losses.append(losses.detach().float().reshape(-1))
        predicted = logits.detach().argmax(1, keepdim=True)
        self._correct.append(target.gather(1, predicted).squeeze(1).float())

    def all_finite(self) -> bool:
        """Whether every loss since the last ``compute`` is finite; waits for the device."""
        return bool(torch.isfinite(torch.cat(self._losses)).all()) if self._losses else True

    def compute(self) -> dict[str, float]:
        """Mean, best, worst and quantile losses and accuracy, in float64; empties the meter."""
        losses, correct = torch.cat(self._losses).double().cpu(), torch.cat(self._correct).double().cpu()
        self._losses, self._correct = [], []
        return {"accuracy": correct.mean().item(), **loss_summary(losses)}

    def state_dict(self) -> dict[str, Tensor]:
        """What was gathered so far."""
        empty = torch.zeros(0)
        return {
            "losses": torch.cat(self._losses) if self._losses else empty,
            "correct": torch.cat(self._correct) if self._correct else empty,
        }

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Take back what ``state_dict`` gave."""
        self._losses = [state["losses"].to(device)] if len(state["losses"]) else []
        self._correct = [state["correct"].to(device)] if len(state["correct"]) else []


def loss_summary(losses: Tensor) -> dict[str, float]:
    """Mean, best, worst and quantiles of ``(N,)`` losses (ASSIST section 4.1).

    >>> loss_summary(torch.tensor([1.0, 2.0, 6.0]))["loss_worst"]
    6.0
    """
    ordered = losses.double().sort().values
    # torch.quantile refuses more than 16 million values, so interpolate between order statistics here.
    last = len(ordered) - 1
    quantiles = {}
    for name, q in _QUANTILES.items():
        low = int(q * last)
        share = q * last - low
        quantiles[name] = torch.lerp(ordered[low], ordered[min(low + 1, last)], share).item()
    return {
        "loss": ordered.mean().item(),
        "loss_best": ordered[0].item(),
        "loss_worst": ordered[-1].item(),
        **quantiles,
    }


@torch.no_grad()
def predict_view(
    model: nn.Module, view: View, batch_size: int = 512, *, channels_last: bool = False
) -> tuple[Tensor, Tensor]:
    """Logits ``(N, C)`` float32 and labels ``(N,)`` of a whole view, on the CPU; the model's mode is kept."""
    was_training = model.training
    model.eval()
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    try:
        for x, y in view.batches(torch.arange(len(view)).split(batch_size)):
            if channels_last and x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            logits.append(model(x).float().cpu())
            labels.append(y.cpu())
    finally:
        model.train(was_training)
    return torch.cat(logits), torch.cat(labels)


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, cross-entropy losses and top-5 accuracy of predictions."""
    losses = F.cross_entropy(logits.double(), labels, reduction="none")
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices
    top5 = (top == labels.unsqueeze(1)).any(1).double().mean().item()
    return {"accuracy": accuracy, **loss_summary(losses), "top5": top5}


def detailed_metrics(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """As ``classification_metrics``, with calibration error, confusion matrix and accuracy of each class.

    The confusion matrix has a row for each true class and a column for each predicted one.
    """
    classes = logits.shape[1]
    predicted = logits.argmax(1)
    confusion = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
    counts = confusion.sum(1)
    per_class = confusion.diagonal().double() / counts.clamp(min=1)
    return {
        **classification_metrics(logits, labels),
        "calibration_error": calibration_error(logits.double().softmax(1), labels),
        "per_class_accuracy": [v if n else None for v, n in zip(per_class.tolist(), counts.tolist(), strict=True)],
        "confusion": confusion.tolist(),
    }


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = _CALIBRATION_BINS) -> float:
    """Expected calibration error over equal bins of confidence (arXiv:1706.04599, eq. 3).

    >>> calibration_error(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0, 1]))  # |.5 - .8|
    0.3...
    """
    confidence, predicted = probabilities.max(1)
    correct = (predicted == labels).double()
    bin_of = (confidence.double() * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_of, correct - confidence.double())
    return float(gap.abs().sum() / len(labels))


def parameter_norm(model: nn.Module) -> float:
    """L2 norm over all parameters (thesis figures 3.5 and 3.7)."""
    squares = [parameter.detach().double().square().sum() for parameter in model.parameters()]
    return float(torch.stack(squares).sum().sqrt())
