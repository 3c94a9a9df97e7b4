"""Losses of another, finished run on the training samples: RHO-LOSS' holdout model, a curriculum's teacher."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lessonplan.data import Data
from lessonplan.errors import ConfigError
from lessonplan.order import TeacherLed
from lessonplan.plan import Plan
from lessonplan.select import RhoLoss

_CHUNK = 1024


def give_holdouts(plan: Plan, data: Data, *, stored: bool = False) -> None:
    """Give ``RhoLoss`` and ``TeacherLed`` that name a run its losses on all training samples, unaugmented.

    Args:
        plan: with parts that may name a run.
        data: whose training samples are meant.
        stored: whether a checkpoint has the losses: then the run that they are of may be gone.

    Raises:
        ConfigError: the folder holds no finished run, or one of other classes.
    """
    selections = plan.select.selections() if plan.select is not None else []
    for part in (part for selection in selections for part in selection.parts):
        if isinstance(part, RhoLoss) and _is_asked(part.holdout, stored):
            part.give_holdout(_losses(str(part.holdout), "holdout", data))
    if isinstance(plan.order, TeacherLed) and _is_asked(plan.order.run, stored):
        plan.order.give_losses(_losses(str(plan.order.run), "teacher's", data))


def _is_asked(named: Tensor | str | None, stored: bool) -> bool:
    return isinstance(named, str) and (not stored or Path(named).exists())


def _losses(folder: str, role: str, data: Data) -> Tensor:
    """Cross-entropy of a run's network on every training sample ``(N,)``, at most 100."""
    from lessonplan.train.classifier import load  # which knows fit, which calls this

    classifier = load(folder, device=str(data.train.device))
    if classifier.class_names != tuple(data.class_names):
        raise ConfigError(
            f"the {role} run {folder} knows the classes {', '.join(classifier.class_names)}, and the"
            f" data have {', '.join(data.class_names)}: give a run on the same classes"
        )
    losses = [
        -classifier.predict(data.train.raw(rows)).gather(1, data.train.labels[rows, None]).squeeze(1).log()
        for rows in torch.arange(len(data.train)).split(_CHUNK)
    ]
    return torch.cat(losses).clamp(max=100.0)
