"""A network, its loss and its optimizer: how an update is made."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.network.network import Network


@dataclass
class Step:
    """What an update saw.

    Attributes:
        logits: ``(M, C)`` before the update.
        losses: ``(M,)``, or a scalar where the loss function gives no more.
    """

    logits: Tensor
    losses: Tensor


@dataclass
class Learner:
    """Makes updates; the trainer and look-ahead ordering share it.

    Args:
        network: the network with its loss and its forward pass as the loop makes it.
        optimizer: any of PyTorch's.
        scaler: gradient scaler; None is one that does nothing.
        clip: largest norm of the gradient, or None.
    """

    network: Network
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.scaler is None:
            self.scaler = torch.amp.GradScaler("cpu", enabled=False)

    @property
    def model(self) -> nn.Module:
        """The network itself."""
        return self.network.module

    def losses(self, x: Tensor, target: Tensor, context: AbstractContextManager[object] | None = None) -> Step:
        """Forward pass and losses, with a graph where gradients are on.

        Args:
            x: ``(M, ...)`` inputs.
            target: ``(M, C)`` soft targets, or ``(M,)`` labels.
            context: around the forward pass, for mixes that reach into the network.
        """
        with context if context is not None else nullcontext():
            logits = self.network.logits(x)
        return Step(logits, self.network.loss(logits, soft(target, logits.shape[1])))

    def update(self, step: Step, weights: Tensor | None = None, factor: float = 1.0) -> Tensor:
        """Backward pass and update.

        Args:
            step: what ``losses`` gave.
            weights: ``(M,)`` factors of the losses; the mean of the products is minimised.
            factor: of that mean, where it is a rank's part of a larger one.

        Returns:
            the scalar that was minimised, detached.
        """
        assert self.scaler is not None
        loss = weighted_mean(step.losses, weights)
        if factor != 1.0:
            loss = loss * factor
        forget_gradients(self.optimizer)
        self.scaler.scale(loss).backward()
        if self.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def forget_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Set all gradients to None; PyTorch's ``zero_grad`` takes many times as long, which small networks feel."""
    if getattr(optimizer.zero_grad, "__func__", None) is not torch.optim.Optimizer.zero_grad:
        optimizer.zero_grad(set_to_none=True)  # somebody's own way
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def soft(target: Tensor, num_classes: int) -> Tensor:
    """Labels ``(M,)`` as rows of ones and zeros ``(M, C)``; soft targets as they are."""
    return target if target.is_floating_point() else F.one_hot(target.long(), num_classes).float()


def weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of ``(M,)`` losses times their weights; a loss that is a scalar already stays as it is."""
    if weights is None or losses.ndim == 0:
        return losses.mean()
    return (losses * weights.to(losses.device, non_blocking=True)).mean()


def restart(optimizer: torch.optim.Optimizer) -> None:
    """Forget momentum and its like.

    Fused SGD gets zeros, which make the same first update. Left to make its buffers itself, it keeps memory that
    was never written where fp16's scaler skips that update, and fails for parameters whose gradients begin later.
    So do parameters of which this rank has a part, that their checkpoints are like others.
    """
    optimizer.state.clear()
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            for parameter in group["params"] if group["momentum"] > 0 else ():
                if group["fused"] or hasattr(parameter, "to_local"):
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
