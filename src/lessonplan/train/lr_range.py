"""``find_lr``: train with a learning rate that rises from step to step, and see where the loss falls."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lessonplan.data import Data
from lessonplan.data.results_place import refuse_among_classes
from lessonplan.errors import ConfigError, require
from lessonplan.files import write_json
from lessonplan.models.factory import Factory
from lessonplan.network.network import LossFunction
from lessonplan.network.threads import cpu_threads, own_threads
from lessonplan.plan import Plan
from lessonplan.settings import Settings
from lessonplan.stores import in_place
from lessonplan.supply.epoch import HANDLED
from lessonplan.train.beginning import begin, lent
from lessonplan.train.budget import Budget
from lessonplan.train.callbacks import Callback
from lessonplan.train.frozen import trainee
from lessonplan.train.holdout import give_holdouts
from lessonplan.train.lr_curve import Floats, read_curve
from lessonplan.train.optimizer import OptimizerFactory, read_head_lr
from lessonplan.train.progress import ProgressLine
from lessonplan.train.rising import Rising
from lessonplan.train.trainer import NotFinite, Trainer
from lessonplan.train.usage import environment

# So long that the plan stays as it is at a run's beginning: a cascade keeps its K, a warm-up goes on.
_ENDLESS = Budget(1e15, "steps")
_UNUSED: dict[str, Any] = {
    "schedule": "constant", "keep": "last", "ema": None, "evaluate_train": False, "evaluate_test": "end",
}  # fmt: skip
_FEWEST = 10
_OTHERS = ("config.yaml", "results.json", "ordering.json", "evaluation.json", "overview.json")


@dataclass(frozen=True)
class LrRange:
    """The curve of a range test, and what it says.

    Attributes:
        suggested: learning rate at which the smoothed loss falls fastest; None where no number can be said.
        tenth: a tenth of ``lowest``; None likewise.
        lowest: learning rate of the lowest smoothed loss; None likewise.
        reason: why there is no number; empty where there is one.
        lr: ``(N,)`` learning rate of each step, those of other parameter groups in proportion.
        loss: ``(N,)`` mean loss of each step's batch, before its update.
        smoothed: ``(N,)``, see ``lessonplan.train.lr_curve.smooth``.
        ended: "range" (all steps were made), "diverged", "not finite", or "nothing selected".
        steps: how many were wanted.
        notes: what to keep in mind, sentences.
        folder: where it is stored, or None.
    """

    suggested: float | None
    tenth: float | None
    lowest: float | None
    reason: str
    lr: Floats = field(repr=False)
    loss: Floats = field(repr=False)
    smoothed: Floats = field(repr=False)
    ended: str
    steps: int
    notes: tuple[str, ...]
    folder: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, but for the folder."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "folder"}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()}


@in_place
def find_lr(
    model: str | nn.Module | Factory = "tiny",
    data: str | Data = "digits",
    plan: Plan | str | None = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    loss: str | LossFunction = "ce",
    optimizer: str | OptimizerFactory = "auto",
    **settings: Any,
) -> LrRange:
    """Learning-rate range test: one training with a learning rate that rises exponentially from step to step.

    The number that is suggested is where the smoothed loss falls fastest by the logarithm of the learning rate. A
    tenth of the learning rate of the lowest loss is told beside it (fastai's two suggestions). The first is
    preferred because the place of the minimum depends on how long the test went on at lower rates and on when
    exactly training broke down, while the fall lies before all that.

    Everything but the learning rate stands as at the beginning of a run: a cascade keeps its first K, gradual
    tuning trains the head. Only training samples are used (a look-ahead that looks at validation samples still
    does). The test works on copies: a module, its gradients and its modes stay as they are, bit for bit, and so
    do the plan and PyTorch's random state.

    Args:
        model, data, plan, seed, loss, optimizer: as ``fit`` takes them. Same arguments, same curve.
        lowest: learning rate of the first step, above 0.
        highest: learning rate of the last step, above ``lowest``.
        steps: updates, 10 or more. The test ends before where the smoothed loss is 4 times its best, or where
            a loss is not finite.
        out: folder for ``lr.json``, all numbers; without one nothing is written.
        **settings: see ``Settings``. Whatever belongs to longer training (``schedule``, ``keep``, ``ema``,
            evaluations, checkpoints) has no say here, so that a run's settings can be given as they are; of
            ``lr`` only its ratio to a ``head_lr`` that is a number counts.

    Returns:
        The curve with the suggestion; ``suggested`` is None, with a reason, where the loss never falls.

    Raises:
        ConfigError: a setting is wrong, the network cannot be copied, no batch was ever full, or the folder holds
            something else.

    Source: L. N. Smith, Cyclical learning rates for training neural networks (2017), section 3.3
    (arXiv:1506.01186).

    >>> found = find_lr("fcnet-16", "digits", threads=1)
    >>> 0.001 < found.suggested < 1
    True
    """
    folder = Path(out) if out is not None else None
    check_range(lowest, highest, steps, folder)
    if folder is not None:
        refuse_among_classes(folder, data)
    begun = begin(_copied(model), data, plan, seed=seed, loss=loss, optimizer=optimizer, settings=settings)
    chosen = begun.settings.model_copy(update=_UNUSED)
    network = begun.network()
    require(chosen.fit_head == "train", f"fit_head={chosen.fit_head} trains nothing: give fit_head='train'")
    rising = Rising(lowest, highest, steps)
    on_cpu = begun.device.type == "cpu"
    with cpu_threads(chosen.threads or (own_threads() if on_cpu else None)):
        try:
            trained = trainee(network, begun.data, begun.plan, chosen)
            give_holdouts(begun.plan, trained.data)
            with lent(begun.plan):
                trainer = Trainer(
                    trained.network,
                    trained.data,
                    begun.plan,
                    _ENDLESS,
                    trained.settings,
                    seed=seed,
                    loss=begun.loss,
                    optimizer=begun.optimizer,
                    callbacks=[_Stop(rising), ProgressLine(lambda _: len(rising.losses) / steps)],
                )
                trainer.data = dataclasses.replace(trained.data, val=None)  # nothing is evaluated
                rising.base = _base(trainer.state.optimizer)
                trainer.state.schedule = rising
                try:
                    trainer.train()
                except NotFinite:
                    rising.ended = rising.ended or "not finite"
        finally:
            begun.data.close()
    lr, losses = rising.rates(), np.array(rising.losses)
    reading = read_curve(lr, losses, rising.width)
    found = LrRange(
        suggested=reading.suggested,
        tenth=reading.tenth,
        lowest=reading.lowest,
        reason=reading.reason,
        lr=lr,
        loss=losses,
        smoothed=reading.smoothed,
        ended=rising.ended,
        steps=steps,
        notes=(*reading.notes, *_head_note(chosen, rising.base)),
        folder=folder,
    )
    if folder is not None:
        config = begun.config(Budget(steps, "steps"))
        config["settings"] = {k: v for k, v in config["settings"].items() if k in _SAYING}
        config["range"] = {"from": lowest, "to": highest, "steps": steps}
        about = {"schema": 1, "config": config, "environment": environment(str(begun.device))}
        write_json(folder / "lr.json", {**found.to_json(), **about})
    return found


_SAYING = set(Settings.model_fields) - {*_UNUSED, "lr", "watch", "evaluate_every", "checkpoint_every"}


class _Stop(Callback):
    """Ends training when the schedule has heard enough, or when nothing more will come."""

    def __init__(self, rising: Rising) -> None:
        self.rising = rising

    def on_batch_end(self, trainer: Trainer) -> None:
        """After an update."""
        trainer.state.stop_reason = self.rising.ended or None

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Where a selection has kept nothing."""
        if trainer.state.stop_reason != HANDLED:
            return
        if not self.rising.losses:
            raise ConfigError("no update was made: the selection kept nothing; give one that keeps more")
        self.rising.ended = "nothing selected"


def check_range(lowest: float, highest: float, steps: int, folder: Path | None = None) -> None:
    """Find what would stop a range test, before any data are read.

    Raises:
        ConfigError: the numbers are no range, or the folder holds something else.
    """
    finite = math.isfinite(lowest) and math.isfinite(highest)
    require(
        finite and 0 < lowest < highest,
        f"a range of learning rates from {lowest:g} to {highest:g} is none: give two numbers above 0, the lower"
        " one first (--from 1e-6 --to 10)",
    )
    require(steps >= _FEWEST, f"steps={steps}: give at least {_FEWEST}, or no curve can be seen")
    held = [name for name in _OTHERS if folder is not None and (folder / name).exists()]
    if held:
        raise ConfigError(
            f"{folder} holds something else ({held[0]}), whose page would be lost: give another folder"
        )


def _copied(model: str | nn.Module | Factory) -> str | nn.Module | Factory:
    if not isinstance(model, nn.Module):
        return model
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ConfigError(
            f"the network {type(model).__name__} cannot be copied ({error}), and the test must not train it: give"
            " a module that copy.deepcopy takes"
        ) from error


def _base(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate that the optimizer was made with; a group's own is a multiple of it.

    Raises:
        ConfigError: it is 0, of which there are no multiples.
    """
    lr = float(optimizer.defaults.get("lr", optimizer.param_groups[0]["base_lr"]))
    require(lr > 0, f"the optimizer was made with a learning rate of {lr:g}: make it with one above 0")
    return lr


def _head_note(settings: Settings, base: float) -> list[str]:
    """A head's learning rate in numbers rises with the others here, and will not in a run."""
    text = settings.head_lr.strip().lower()
    if text.endswith("x"):
        return []
    ratio = read_head_lr(text, base)
    return [f"the head's learning rate was {ratio:g} times the others': give --head-lr {ratio:g}x with the number"]
