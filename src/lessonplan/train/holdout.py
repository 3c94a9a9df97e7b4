"""The holdout losses that RHO-LOSS asks for, from a run that was trained on other data."""

from __future__ import annotations

import torch

from lessonplan.data import Data
from lessonplan.errors import ConfigError
from lessonplan.plan import Plan
from lessonplan.select import RhoLoss

_CHUNK = 1024


def give_holdouts(plan: Plan, data: Data) -> None:
    """Give each ``RhoLoss`` that names a run that run's losses on all training samples, unaugmented.

    Raises:
        ConfigError: the folder holds no finished run, or one of other classes.
    """
    from lessonplan.train.classifier import load  # which knows fit, which calls this

    if plan.select is None:
        return
    for part in (part for selection in plan.select.selections() for part in selection.parts):
        if not isinstance(part, RhoLoss) or not isinstance(part.holdout, str):
            continue
        classifier = load(part.holdout, device=str(data.train.device))
        if classifier.class_names != tuple(data.class_names):
            raise ConfigError(
                f"the holdout run {part.holdout} knows the classes {', '.join(classifier.class_names)}, and the"
                f" data have {', '.join(data.class_names)}: give a run on the same classes"
            )
        chunks = torch.arange(len(data.train)).split(_CHUNK)
        losses = [
            -classifier.predict(data.train.raw(rows)).gather(1, data.train.labels[rows, None]).squeeze(1).log()
            for rows in chunks
        ]
        part.give_holdout(torch.cat(losses).clamp(max=100.0))
