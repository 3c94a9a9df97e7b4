"""Look-ahead with all candidates at once: one network with stacked parameters instead of K networks in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from lessonplan.batch import Batch, Samples
from lessonplan.errors import ConfigError
from lessonplan.network.learner import Learner, Step, forget_gradients
from lessonplan.network.network import Network
from lessonplan.network.passes import Passes
from lessonplan.network.untouched import has_dropout, untouched
from lessonplan.order.lookahead.look import ExternalBatch, Goal, Look, LookAhead, best_of
from lessonplan.order.measure import pieces
from lessonplan.rows import rows_of

_Named = dict[str, Tensor]


class _AsModule(nn.Module):
    """The network as the loop runs it, as a module whose parameters can be given from outside."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.module = network.module
        self._run = network.logits

    def forward(self, x: Tensor) -> Tensor:
        return self._run(x)


def check_stackable(learner: Learner) -> None:
    """Raise a ``ConfigError`` for a network or a loop that cannot be stacked."""
    for name, module in learner.model.named_modules():
        if isinstance(module, _BatchNorm):
            raise ConfigError(
                f"loss-delta:method=stacked cannot train networks with batch norm side by side ({name}): use group"
                " norm (nn.GroupNorm; wrn-10-1 and its kind take norm=group), or method=exact"
            )
    if learner.scaler is not None and learner.scaler.is_enabled():
        raise ConfigError(
            "loss-delta:method=stacked works without a gradient scaler: use bf16 or fp32, or method=exact"
        )


class StackedLookAhead(LookAhead):
    """The same as ``Exact`` to float tolerance, with K networks in one (``torch.func.vmap``).

    Gradients and evaluations are vectorised over the candidates; the updates themselves are the optimizer's own,
    one after the other, so that any optimizer will do. Memory is that of K networks and K batches. Dropout draws
    the same mask for all candidates.

    Args:
        learner: makes the updates.
        data: where candidates are read from.
        layers: not looked at.

    Raises:
        ConfigError: the network has batch norm, or gradients are scaled.
    """

    name: ClassVar[str] = "stacked"
    needs_external: ClassVar[bool] = False
    measures: ClassVar[bool] = True

    def __init__(self, learner: Learner, data: Samples, *, layers: int = 7) -> None:
        check_stackable(learner)
        super().__init__(learner, data, layers=layers)
        self._module = _AsModule(learner.network)

    def look(self, candidates: Sequence[Batch], goal: Goal, *, keep: bool = False) -> Look:
        """Score candidates; the loss before costs next to nothing among K. See ``LookAhead.look``."""
        on, external = goal.on, goal.external
        if keep:
            forget_gradients(self.learner.optimizer)
        else:
            self._before.take()
        x, y, weights = self._stack(candidates)
        shared = {name: p.detach() for name, p in self._module.named_parameters()}
        gradients, losses, logits = self._gradients(shared, x, y, weights)
        if keep:
            # Behind the forward pass: its random numbers are used up, as in any update.
            self._before.take()
        moved = self._updated(gradients, len(candidates))
        size = x.shape[1]
        drops = external is None and has_dropout(self.learner.model)  # asked here: within there is none
        with untouched(self.learner.model), torch.no_grad():
            if external is not None:
                before = self._losses_on(external, shared, size, stacked=False)
                after = self._losses_on(external, moved, size, stacked=True)
            else:
                before = (losses * weights).sum(1)
                if drops:
                    before = self._own_losses(shared, x, y, weights, stacked=False)
                after = self._own_losses(moved, x, y, weights, stacked=True)
        before, after = torch.stack([before.expand_as(after), after]).cpu()  # read back at once
        gains = before - after
        scores = gains / before if on == "relative" else gains
        winner = best_of(scores)
        step = None
        if keep:
            own = len(candidates[winner])
            step = Step(logits[winner, :own], losses[winner, :own])
            self._update(gradients, winner)
        rows = sum(len(batch) for batch in candidates)
        trained = rows - (len(candidates[winner]) if keep else 0)
        evaluated = (len(candidates) + 1) * len(external[0]) if external is not None else rows * (1 + drops)
        loss = float((after if keep else before)[winner]) if external is not None else None
        return Look(scores, gains, step, Passes.both(trained).plus(Passes.forward(evaluated)), loss)

    def _stack(self, candidates: Sequence[Batch]) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, labels, and factors ``(K, B)`` that make sums weighted means; short candidates are padded."""
        read = [batch.read(self.data) for batch in candidates]
        size = max(len(batch) for batch in candidates)
        xs, ys, weights = [], [], []
        for batch, (x, y) in zip(candidates, read, strict=True):
            rows = torch.arange(size, device=x.device).clamp(max=len(batch) - 1)
            own = torch.ones(len(batch), dtype=torch.float32, device=x.device)
            if batch.weights is not None:
                own = batch.weights.to(x.device, non_blocking=True)
            xs.append(rows_of(x, rows))
            ys.append(y[rows])
            weights.append(torch.cat([own / len(batch), own.new_zeros(size - len(batch))]))
        return torch.stack(xs), torch.stack(ys), torch.stack(weights)

    def _gradients(self, shared: _Named, x: Tensor, y: Tensor, weights: Tensor) -> tuple[_Named, Tensor, Tensor]:
        """Gradients ``(K, ...)`` of each parameter, losses ``(K, B)`` and logits ``(K, B, C)``."""
        trained = {name: p for name, p in self._module.named_parameters() if p.requires_grad}
        fixed = {name: value for name, value in shared.items() if name not in trained}

        def loss(part: _Named, x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            losses, logits = self._forward({**fixed, **part}, x, y)
            return (losses * weights).sum(), (losses, logits)

        each = vmap(grad(loss, has_aux=True), in_dims=(None, 0, 0, 0), randomness="same")
        gradients, (losses, logits) = each({name: shared[name] for name in trained}, x, y, weights)
        return gradients, losses.detach(), logits.detach()

    def _forward(self, parameters: _Named, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = functional_call(self._module, parameters, (x,))
        # By comparison: F.one_hot reads values back, which cannot be done for many candidates at once.
        target = (y[:, None] == torch.arange(logits.shape[1], device=y.device)).float()
        losses = self.learner.network.loss(logits, target)
        return losses.expand(len(x)), logits

    def _updated(self, gradients: _Named, count: int) -> _Named:
        """Parameters ``(K, ...)`` behind an update with each of K gradients; the network is as before."""
        moved: list[list[Tensor]] = []
        for candidate in range(count):
            self._update(gradients, candidate)
            moved.append([p.detach().clone() for p in self._module.parameters()])
            self._before.restore()
        names = [name for name, _ in self._module.named_parameters()]
        return {name: torch.stack(values) for name, values in zip(names, zip(*moved, strict=True), strict=True)}

    def _update(self, gradients: _Named, candidate: int) -> None:
        for name, parameter in self._module.named_parameters():
            if name in gradients:
                parameter.grad = torch.empty_like(parameter).copy_(gradients[name][candidate])
        if self.learner.clip is not None:
            nn.utils.clip_grad_norm_(self.learner.model.parameters(), self.learner.clip)
        self.learner.optimizer.step()

    def _losses_on(self, external: ExternalBatch, parameters: _Named, size: int, *, stacked: bool) -> Tensor:
        """The external batch's mean loss, ``(K,)`` or ``(1,)``."""
        x, y = external
        total: Tensor | float = 0.0
        for a, b in pieces(x, y, size):
            if stacked:
                losses = vmap(lambda p, a=a, b=b: self._forward(p, a, b)[0], randomness="same")(parameters)
            else:
                losses = self._forward(parameters, a, b)[0].unsqueeze(0)
            total = total + losses.sum(1)
        assert isinstance(total, Tensor)
        return total / len(x)

    def _own_losses(self, parameters: _Named, x: Tensor, y: Tensor, weights: Tensor, *, stacked: bool) -> Tensor:
        """The candidates' own mean losses ``(K,)``."""

        def loss(p: _Named, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
            return (self._forward(p, x, y)[0] * w).sum()

        found: Tensor = vmap(loss, in_dims=(0 if stacked else None, 0, 0, 0), randomness="same")(
            parameters, x, y, weights
        )
        return found
