"""Losses and accuracies over many batches, while a network trains and afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lessonplan.data import View
from lessonplan.evaluate.classification import loss_summary, norm_of_all
from lessonplan.network.network import as_logits
from lessonplan.network.ranks import ALONE, Ranks, local
from lessonplan.network.untouched import evaluating
from lessonplan.progress import step


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

    def compute(self, ranks: Ranks = ALONE) -> dict[str, float] | None:
        """Mean, best, worst and quantile losses and accuracy, in float64; None without updates. Empties it.

        Args:
            ranks: who has gathered the others.
        """
        if ranks.alone and not self._losses:
            return None
        state = self.state_dict()
        losses, correct = state["losses"].cpu(), state["correct"].cpu()
        self._losses, self._correct = [], []
        if not ranks.alone:
            losses, correct = ranks.joined(losses), ranks.joined(correct)
            if not len(losses):
                return None
        losses, correct = losses.double(), correct.double()
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


@torch.no_grad()
def predict_view(
    model: nn.Module, view: View, batch_size: int = 512, *, channels_last: bool = False, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor]:
    """Logits ``(N, C)`` float32 and labels ``(N,)`` of a whole view, on the CPU; the model's mode is kept.

    Each of several ranks passes its part, and all of them get the whole.
    """
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    own = torch.arange(len(view))[ranks.taken(len(view))]
    with evaluating(model):
        pieces = [*own.split(batch_size), *[own[:1]] * ranks.short_of(len(view), batch_size)]
        with step("judging samples", len(own), "samples") as line:
            for x, y in view.batches(pieces):
                if channels_last and x.ndim == 4:
                    x = x.contiguous(memory_format=torch.channels_last)
                logits.append(as_logits(model(x), len(x)).cpu())
                labels.append(y.cpu())
                line.update(advance=len(x))
    if not ranks.alone:
        rows = ranks.sizes(len(view))[ranks.rank]
        return ranks.rows(torch.cat(logits)[:rows], len(view)), ranks.rows(torch.cat(labels)[:rows], len(view))
    return torch.cat(logits), torch.cat(labels)


@torch.no_grad()
def norm_of(parameters: Sequence[Tensor], ranks: Ranks) -> float:
    """L2 norm over all parameters; where each rank has parts of them, all ranks have to ask."""
    if not ranks.sharded:
        return norm_of_all(parameters)
    squares = [local(parameter).double().square().sum() for parameter in parameters]
    return math.sqrt(ranks.summed([float(torch.stack(squares).sum())])[0])
