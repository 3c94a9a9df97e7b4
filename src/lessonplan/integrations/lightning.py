"""Lightning (``pip install 'lessonplan[lightning]'``): a callback for mixes, a loader for whole plans."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from lessonplan.errors import ConfigError, LessonplanWarning, require
from lessonplan.integrations.given import mix_for
from lessonplan.integrations.packages import need
from lessonplan.integrations.ranks import gather, scatter
from lessonplan.mix.base import Mix
from lessonplan.mix.stages import Stages
from lessonplan.network.learner import restart
from lessonplan.network.network import Network, soft_cross_entropy
from lessonplan.plan import Plan
from lessonplan.supply.epoch import Mixed
from lessonplan.supply.loops import Batches

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    Callback = need("lightning.pytorch", "lightning").Callback

__all__ = ["MixCallback", "PlanLoader"]

_ELSEWHERE = "a Lightning callback comes too late: train on PlanLoader(lessonplan.batches(...), updates=...)"


class MixCallback(Callback):
    """Tells a mix how far training is, and keeps what it needs in Lightning's checkpoints::

        mix = lp.mix.Cascade(k=4, num_classes=10)

        class Net(LightningModule):
            def training_step(self, batch, batch_idx):
                x, target = mix(*batch)
                return F.cross_entropy(self(x), target)
            ...

        Trainer(max_epochs=20, callbacks=[MixCallback(mix, monitor="val_accuracy")])

    A cascade that switches on a plateau hears the monitored metric after each validation; the stage's best weights
    are kept, and put back when the next one begins. The mix may stand in a ``collate_fn`` as well: workers hear of
    progress. Every process draws for itself; all switch by the metric of the first.

    Args:
        mix: the object that ``training_step`` or ``collate_fn`` mixes with, or a plan that only mixes
            (``self.mix`` is its mix).
        monitor: name of a logged metric; needed by cascades without ``shares``.
        mode: whether ``"max"`` or ``"min"`` of it is better.
        on_switch: called after a switch, with the trainer; the place to start a schedule anew.

    Raises:
        ConfigError: the plan selects or orders, training has no end, or a metric is missing.
    """

    def __init__(
        self,
        mix: Mix | Plan | str,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        on_switch: Callable[[Trainer], object] | None = None,
    ) -> None:
        super().__init__()
        require(mode in ("max", "min"), f"mode={mode!r}: give max or min")
        self.mix, self.monitor, self.mode, self.on_switch = mix_for(mix, _ELSEWHERE), monitor, mode, on_switch
        self._stages: Stages | None = None
        self._best: dict[str, Tensor] | None = None

    # -- what Lightning calls ------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Get to know the network; checks that the mix can work."""
        if self.mix.needs_validation() and self.monitor is None:
            raise ConfigError(
                f"{self.mix} switches on plateaus of a metric: give monitor=..., a name that validation logs, or"
                " let it switch by shares"
            )
        if self.mix.needs_validation() and not trainer.enable_validation:
            raise ConfigError(
                f"{self.mix} switches on plateaus of {self.monitor!r}, and nothing is validated: give"
                " val_dataloaders and validation_step, or let it switch by shares"
            )
        _progress(trainer)
        if self.mix.needs_network() and not _attached(self.mix):
            self.mix.attach(Network(pl_module, soft_cross_entropy))
        self._stages = Stages(self.mix, pl_module, on_switch=lambda: self._switched(trainer))
        self._stages.best = self._best

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how far training is."""
        assert self._stages is not None
        self._stages.advance(_progress(trainer))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The same for what changes within an epoch."""
        assert self._stages is not None
        self._stages.advance(_progress(trainer, batch_idx), epoch_start=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say the monitored metric, but for the check before training, and for ``Trainer.validate``."""
        if self.monitor is None or trainer.sanity_checking or trainer.state.fn != "fit" or self._stages is None:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise ConfigError(f"monitor={self.monitor!r} was not logged: validation logs {known}")
        value = float(trainer.strategy.broadcast(float(trainer.callback_metrics[self.monitor])))
        self._stages.step(value if self.mode == "max" else -value)

    def state_dict(self) -> dict[str, Any]:
        """The mix of every process, and the best weights of a stage that has not ended."""
        best = self._stages.best if self._stages is not None else self._best
        return {"mix": gather(self.mix), "best": best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        scatter(self.mix, state_dict["mix"])
        self._best = state_dict["best"]
        if self._stages is not None:
            self._stages.best = self._best

    # ------------------------------------------------------------------------------------------------

    def _switched(self, trainer: Trainer) -> None:
        effects = self.mix.effects_of_switch()
        if effects.reset_optimizer:
            for optimizer in trainer.optimizers:
                restart(optimizer)
        if self.on_switch is not None:
            self.on_switch(trainer)
        elif effects.restart_lr and trainer.lr_scheduler_configs:
            warnings.warn(
                "the cascade asks for a learning-rate schedule that begins anew at a switch, and Lightning's goes"
                " on: give on_switch=..., which starts it anew, or Cascade(lr_at_switch='keep')",
                LessonplanWarning,
                stacklevel=2,
            )


class PlanLoader:
    """A whole plan as Lightning's ``train_dataloaders``: batches are chosen and mixed as they are asked for.

    Lightning reads one batch ahead of loaders without a length, which would be chosen by the network before its
    update. So an epoch of Lightning's is a number of updates here; with ``max_epochs=-1`` training ends when the
    plan's epochs are over, which ``callback`` sees to; it keeps the loop's state in Lightning's checkpoints too::

        loop = lp.batches(model, data, "select:accuracy + mixup", epochs=20, batch_size=64)
        loader = PlanLoader(loop, updates=100)
        Trainer(max_epochs=-1, callbacks=[loader.callback]).fit(net, loader)

    Batches are ``(x, target, weights)``. What ``lp.batches`` asks of a loop holds: ``loader.loop.observe(logits)``
    after each update for parts that remember, ``loader.loop.step(metric)`` for cascades that switch on a plateau.

    Args:
        loop: what ``lp.batches`` gave; its network is trained in the same process.
        updates: of an epoch of Lightning's, after which it validates.
    """

    def __init__(self, loop: Batches, updates: int) -> None:
        require(updates >= 1, f"updates={updates}: give at least 1")
        self.loop, self.updates = loop, updates
        self._open: Iterator[Any] | None = None
        self.callback = _LoopCallback(self)

    def __len__(self) -> int:
        return self.updates

    def __iter__(self) -> Iterator[Mixed]:
        for _ in range(self.updates):
            batch = self._next()
            if batch is None:
                return
            yield batch

    def begin_anew(self) -> None:
        """Ask the loop for an iteration of its own, after its state was taken back."""
        self._open = None

    def _next(self) -> Mixed | None:
        while not self.loop.over:
            if self._open is None:
                self._open = iter(self.loop)
            batch: Mixed | None = next(self._open, None)
            if batch is not None:
                return batch
            self._open = None
        return None


class _LoopCallback(Callback):
    """Ends training when a plan's epochs are over, and keeps the loop's state in Lightning's checkpoints."""

    def __init__(self, loader: PlanLoader) -> None:
        super().__init__()
        self.loader = loader

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Ask whether they are over."""
        if self.loader.loop.over:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask again: it may have been the last batch of an epoch that is not full."""
        self.on_train_batch_end(trainer)

    def state_dict(self) -> dict[str, Any]:
        """That of the loop."""
        return self.loader.loop.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        self.loader.begin_anew()
        self.loader.loop.load_state_dict(state_dict)


def _progress(trainer: Trainer, batch: int = 0) -> float:
    """How far training is, in [0, 1].

    Raises:
        ConfigError: nobody knows, since it has no end.
    """
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if steps is not None and steps > 0:
        return min(1.0, trainer.global_step / steps)
    if epochs is None or epochs < 1:
        raise ConfigError("training has no end, and the mix follows how far it is: give max_epochs or max_steps")
    of_epoch = trainer.num_training_batches
    within = batch / of_epoch if of_epoch and of_epoch != float("inf") else 0.0
    return min(1.0, (trainer.current_epoch + within) / epochs)


def _attached(mix: Mix) -> bool:
    own: nn.Module | None = getattr(mix, "model", None)
    inner = [child for child in mix.children() if child.needs_network()]
    return own is not None if not inner else all(map(_attached, inner))
