"""The training loop, told once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.data import Data
from lessonplan.errors import LessonplanError
from lessonplan.mix import Network
from lessonplan.mix.network import LossFunction
from lessonplan.plan import Plan
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.train.budget import Budget
from lessonplan.train.cadence import Cadence
from lessonplan.train.callbacks import Callback
from lessonplan.train.counters import Counters
from lessonplan.train.interrupt import GracefulInterrupt
from lessonplan.train.metrics import classification_metrics, parameter_norm, predict_view
from lessonplan.train.optimizer import OptimizerFactory, restart, scale_learning_rate
from lessonplan.train.preparation import check_decisions, check_mix, named_loss, resolve_batch_size
from lessonplan.train.randomness import seeded
from lessonplan.train.run_folder import RunFolder
from lessonplan.train.state import TrainingState
from lessonplan.train.usage import memory_use

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FINITE_CHECK_STEPS = 100


class NotFinite(LessonplanError):
    """The loss became NaN or infinite."""


class Trainer:
    """One run: a network, its data, a plan and a budget.

    ``fit`` is the way in; callbacks see this object. Public attributes: ``data``, ``plan``, ``budget``,
    ``settings``, ``state`` (everything that changes, see ``TrainingState``) and ``history`` (a record an epoch).
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        plan: Plan,
        budget: Budget,
        settings: Settings,
        *,
        seed: int,
        folder: RunFolder | None = None,
        loss: LossFunction | None = None,
        optimizer: OptimizerFactory | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.data, self.plan, self.budget, self.settings, self.seed = data, plan, budget, settings, seed
        self.folder, self.callbacks = folder, callbacks
        self.device = data.train.device
        self.batch_size = resolve_batch_size(settings.batch_size, len(data.train))
        check_decisions(plan, data, settings)
        if plan.mix is not None:
            plan.mix.finish_setup(data.num_classes, seed)
            check_mix(plan.mix, data, self.batch_size)
        self.state = TrainingState(model, plan, settings, self.device, optimizer)
        self.forward: Callable[[Tensor], Tensor] = torch.compile(model) if settings.compile else model
        self.loss = loss or named_loss(settings, plan)
        self.history: list[dict[str, Any]] = []
        self._checkpoints = Cadence.parse(settings.checkpoint_every)

    @property
    def model(self) -> nn.Module:
        """The network that trains."""
        return self.state.model

    @property
    def counters(self) -> Counters:
        """What the run has spent."""
        return self.state.counters

    @property
    def progress(self) -> float:
        """The share of the budget that is used."""
        return self.budget.progress(self.counters)

    # -- the loop ------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train until the budget is spent; a run that was interrupted goes on where its checkpoint is.

        PyTorch's global random state (which dropout reads) is seeded for the run and given back afterwards.
        """
        if self.plan.mix is not None:
            self.plan.mix.attach(Network(self.model, self.loss, run=self._logits, scale=self.state.scaler.scale))
        accelerators = [self.device] if self.device.type == "cuda" else []
        random_state = seeded(fold_seed(self.seed, "training"), accelerators)
        with random_state, GracefulInterrupt() as interrupt:
            self._resume()
            self._call("on_train_start")
            self.model.train()
            try:
                while self.progress < 1 and self.state.stop_reason is None:
                    self._train_epoch(interrupt)
            finally:
                self.model.eval()
                self._call("on_train_end")
            if self.state.best is not None:
                self.state.load_weights(self.state.best)
            self._checkpoint()
            if interrupt.requested:
                raise KeyboardInterrupt

    def _train_epoch(self, interrupt: GracefulInterrupt) -> None:
        state, mix = self.state, self.plan.mix
        if state.batches_done == 0:
            self._start_epoch()
        started = time.perf_counter()
        for x, y in self._batches():
            self._call("on_batch_start")
            if mix is not None:
                mix.advance(self.progress, epoch_start=False)
            self._update(x, y)
            state.batches_done += 1
            state.counters.count_epochs(len(self.data.train))
            now = time.perf_counter()
            state.counters.seconds += now - started
            started = now
            self._call("on_batch_end")
            # Before the interrupt: a checkpoint here would be resumed behind the epoch's end.
            if self.progress >= 1 or state.stop_reason is not None:
                break
            if interrupt.requested:
                interrupt.acknowledge()
                self._checkpoint()
                raise KeyboardInterrupt
            if self._checkpoints.due(state.counters.steps):
                self._checkpoint()
        self._end_epoch()

    def _start_epoch(self) -> None:
        mix = self.plan.mix
        if mix is not None and mix.advance(self.progress):
            self._begin_stage()
        # Fixed for the epoch, so that read-ahead and resume see the same batches.
        self.state.epoch_draws = mix.draws(self.batch_size) if mix is not None else self.batch_size
        self._call("on_epoch_start")

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What is left of the epoch, in nearly equal batches of at most ``epoch_draws``."""
        epoch = self.counters.epoch
        generator = torch.Generator().manual_seed(fold_seed(self.seed, "order", epoch))
        order = torch.randperm(len(self.data.train), generator=generator)
        batches = order.tensor_split(self._batches_in_epoch())[self.state.batches_done :]
        yield from self.data.train.batches(iter(batches), epoch=epoch)

    def _batches_in_epoch(self) -> int:
        return math.ceil(len(self.data.train) / self.state.epoch_draws)

    def _update(self, x: Tensor, y: Tensor) -> None:
        """Mix, forward, loss, backward, update, observe."""
        state, mix, drawn = self.state, self.plan.mix, len(x)
        state.optimizer.zero_grad(set_to_none=True)
        if mix is not None:
            x, target = mix(x, y)
        else:
            target = F.one_hot(y, self.data.num_classes).float()
        with mix.forward_context() if mix is not None else nullcontext():
            logits = self._logits(x)
        losses = self.loss(logits, target)
        loss = losses.mean()
        state.lr = scale_learning_rate(state.optimizer, state.schedule.factor(self.progress))
        self._check_finite(loss)
        state.scaler.scale(loss).backward()
        if self.settings.clip is not None:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.average is not None:
            state.average.update_parameters(self.model)
        if state.schedule.listens:
            state.schedule.observe(loss.item())
        state.meter.add(losses, logits, target)
        extra = mix.take_passes() if mix is not None else None
        state.counters.trained(samples=len(x), raw_samples=drawn, extra=extra)

    def _logits(self, x: Tensor) -> Tensor:
        """The forward pass as the settings want it; float32."""
        if self.settings.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            return self.forward(x).float()

    def _end_epoch(self) -> None:
        if not self.state.meter.all_finite():
            raise self._not_finite()
        counters = self.counters
        record: dict[str, Any] = {
            "epoch": counters.epoch,
            "step": counters.steps,
            "samples": counters.samples,
            "raw_samples": counters.raw_samples,
            "cost": counters.cost,
            "lr": self.state.lr,
            "train": self.state.meter.compute(),
            "param_norm": parameter_norm(self.model),
        }
        if self.plan.mix is not None:
            record["mix"] = self.plan.mix.describe()
        if self._evaluation_due():
            record["val"] = self._validate()
        record["system"] = self._system_record()
        self.history.append(record)
        if self.folder is not None:
            self.folder.append_metrics(record)
        if self.state.batches_done == self._batches_in_epoch():
            counters.epoch += 1
            counters.epoch_share = 0.0
            self.state.batches_done = 0
        self._call("on_epoch_end")

    def _system_record(self) -> dict[str, float]:
        seconds, samples = self.counters.seconds, self.counters.samples
        if self.history:
            passed = seconds - self.history[-1]["system"]["seconds"]
            samples -= self.history[-1]["samples"]
        else:
            passed = seconds
        speed = samples / max(passed, 1e-9)
        return {"seconds": seconds, "samples_per_second": speed, **memory_use(self.device)}

    # -- what validation decides ---------------------------------------------------------------------

    def _evaluation_due(self) -> bool:
        if self.data.val is None:
            return False
        if self.progress >= 1 or self.state.stop_reason is not None:
            return True
        every = self.settings.evaluate_every
        if every == "auto":
            return self.counters.samples - self.state.last_evaluation >= len(self.data.train)
        return (self.counters.epoch + 1) % every == 0

    def _validate(self) -> dict[str, float]:
        """Evaluate, keep what is best, and let the mix decide whether its next stage begins."""
        assert self.data.val is not None
        state = self.state
        state.last_evaluation = self.counters.samples
        self.counters.evaluated += len(self.data.val)
        with self._autocast():
            logits, labels = predict_view(
                state.evaluated_model, self.data.val, channels_last=self.settings.channels_last
            )
        metrics = classification_metrics(logits, labels)
        watched = metrics["accuracy"] if self.settings.watch == "accuracy" else -metrics["loss"]
        if not math.isfinite(metrics["loss"]):
            raise self._not_finite()
        if self.settings.keep == "best" and watched > state.best_metric:
            state.best_metric, state.best = watched, state.weights()
        if self.plan.mix is not None:
            outcome = self.plan.mix.step(watched)
            if outcome == "improved":
                state.stage_best = state.weights()
            elif outcome == "switched":
                self._begin_stage()
        return metrics

    def _begin_stage(self) -> None:
        """A cascade moved on: back to the best weights of the stage that ended."""
        assert self.plan.mix is not None
        if self.state.stage_best is not None:
            self.state.load_weights(self.state.stage_best)
            self.state.stage_best = None
        effects = self.plan.mix.effects_of_switch()
        if effects.reset_optimizer:
            restart(self.state.optimizer)
        if effects.restart_lr:
            self.state.schedule.restart(self.progress)

    # -- checkpoints and trouble ---------------------------------------------------------------------

    def _checkpoint(self) -> None:
        if self.folder is None:
            return
        # The last update may have broken the weights behind a loss that was still finite.
        if not (self.state.meter.all_finite() and math.isfinite(parameter_norm(self.model))):
            raise self._not_finite()
        state = {**self.state.state_dict(), "metrics_bytes": self.folder.sync_metrics()}
        self.folder.checkpoints.save(self.counters.steps, state)
        self._checkpoints.done(self.counters.steps)

    def _resume(self) -> None:
        if self.folder is None:
            return
        self.folder.claim()
        state = self.folder.checkpoints.load_newest()
        if state is None:
            self.folder.rewind_metrics(0)
            # A model made by the user may start from other weights next time: keep these.
            self._checkpoint()
            return
        self.state.load_state_dict(state)
        self.history = self.folder.rewind_metrics(state["metrics_bytes"])
        self._checkpoints.done(self.counters.steps)

    def _autocast(self) -> torch.autocast:
        kind = _AUTOCAST.get(self.settings.precision)
        return torch.autocast(self.device.type, dtype=kind, enabled=kind is not None)

    def _call(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def _check_finite(self, loss: Tensor) -> None:
        """On the CPU before every update; elsewhere rarely, since reading a value stalls the device."""
        if self.device.type == "cpu":
            if not math.isfinite(loss.item()):
                raise self._not_finite()
        elif self.counters.steps % _FINITE_CHECK_STEPS == 0 and not self.state.meter.all_finite():
            raise self._not_finite()

    def _not_finite(self) -> NotFinite:
        newest = self.folder.checkpoints.newest() if self.folder is not None else None
        kept = f"the last good checkpoint is {newest.name}" if newest is not None else "no checkpoint was kept"
        cause = f"a learning rate that is too high (lr={self.state.lr:g}), or NaN in the data"
        if self.settings.precision == "fp16":
            cause += ", or values beyond the range of fp16 (try bf16)"
        return NotFinite(
            f"the loss is NaN or infinite at step {self.counters.steps} (epoch {self.counters.epoch}); {kept};"
            f" the likely cause is {cause}"
        )
