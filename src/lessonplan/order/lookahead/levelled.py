"""Looks of several ranks: an update that one of them has kept becomes that of all."""

from __future__ import annotations

import torch
from torch import Tensor

from lessonplan.network.learner import Learner, Step
from lessonplan.order.lookahead.look import Look, LookAhead


def levelled(method: LookAhead, look: Look) -> Look:
    """The first rank's look, and its update where one was kept, where each rank has looked at all candidates.

    Ranks need not see the same: dropout draws apart on each, and processors round in their own ways.

    Args:
        method: that has looked; its network and optimizer are overwritten where an update was kept.
        look: this rank's.
    """
    learner = method.learner
    ranks = learner.network.ranks
    if ranks.alone or method.shares:
        return look
    scores, gains, loss, kept = ranks.told([look.scores, look.gains, look.loss, look.step is not None])
    step = followed(learner, look.step, 0) if kept or ranks.any(look.step is not None) else None
    return Look(scores, gains, step if kept else None, look.passes, loss)


def followed(learner: Learner, step: Step | None, source: int) -> Step | None:
    """Become what one rank is behind its update, or without one; what it saw.

    Args:
        learner: of this rank; its network and optimizer are overwritten.
        step: what this rank's own update saw, whichever it was, or None if it has made none.
        source: the rank that all follow.
    """
    ranks, model = learner.network.ranks, learner.model
    said = None if step is None else [step.logits.cpu(), step.losses.cpu()]
    seen = ranks.told(said, source)
    ranks.level([*model.parameters(), *model.buffers()], source)
    updated = [row[0] for row in ranks.table([float(step is not None)])]
    if all(updated):
        ranks.level(_optimizer_tensors(learner), source)
    else:  # optimizers that have made another number of updates may hold different things
        state = ranks.told(learner.optimizer.state_dict(), source)
        if ranks.rank != source:
            learner.optimizer.load_state_dict(state)
    if seen is None:
        return None
    there = next(model.parameters()).device
    return Step(seen[0].to(there), seen[1].to(there))


def _optimizer_tensors(learner: Learner) -> list[Tensor]:
    """In the order of its parameters."""
    optimizer = learner.optimizer
    states = [
        optimizer.state[p] for group in optimizer.param_groups for p in group["params"] if p in optimizer.state
    ]
    return [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
