"""The training loop, told once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.batch import Batch
from lessonplan.data import Data, View
from lessonplan.errors import ConfigError, LessonplanError
from lessonplan.evaluate.classification import classification_metrics, parameter_norm
from lessonplan.mix import Network
from lessonplan.network.accelerator import accelerators_of, is_accelerator, synchronise
from lessonplan.network.counters import Counters
from lessonplan.network.learner import Learner, Step, restart, soft
from lessonplan.network.network import LossFunction, as_logits
from lessonplan.network.passes import Passes
from lessonplan.network.untouched import seeded, train_mode
from lessonplan.plan import Plan
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.supply.epoch import HANDLED, Mixed
from lessonplan.train.budget import Budget
from lessonplan.train.cadence import Cadence
from lessonplan.train.callbacks import Callback
from lessonplan.train.interrupt import GracefulInterrupt
from lessonplan.train.metrics import predict_view
from lessonplan.train.optimizer import OptimizerFactory, scale_learning_rate
from lessonplan.train.preparation import named_loss, prepare
from lessonplan.train.run_folder import RunFolder
from lessonplan.train.state import TrainingState
from lessonplan.train.usage import memory_use

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FINITE_CHECK_STEPS = 100


class NotFinite(LessonplanError):
    """The loss became NaN or infinite."""


class Trainer:
    """One run: a network, its data, a plan and a budget.

    ``fit`` is the way in; callbacks see this object. ``priced`` says what passes through the model cost where it
    is a part of a larger network. Public attributes: ``data``, ``plan``, ``budget``,
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
        priced: Callable[[Passes], Passes] | None = None,
    ) -> None:
        self.data, self.plan, self.budget, self.settings, self.seed = data, plan, budget, settings, seed
        self.folder, self.callbacks = folder, callbacks
        self._priced = priced or (lambda passes: passes)
        self.device = data.train.device
        self.batch_size, self.supply = prepare(
            plan, data, settings, seed, linear=loss is None and settings.loss == "ce"
        )
        example = torch.zeros(1, *data.shape, device=self.device)
        self.state = TrainingState(model, plan, settings, self.device, optimizer, example, seed)
        self.forward: Callable[[Tensor], Tensor] = torch.compile(model) if settings.compile else model
        self.loss = loss or named_loss(settings, plan)
        self.network = Network(model, self.loss, run=self._logits, scale=self.state.scaler.scale)
        self.learner = Learner(self.network, self.state.optimizer, self.state.scaler, settings.clip)
        self.supply.network = self.network
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
    def evaluates_train(self) -> bool:
        """Whether the whole training set is judged at every validation; what is selected says little of it."""
        return self.settings.evaluate_train or self.plan.select is not None

    @property
    def progress(self) -> float:
        """The share of the budget that is used."""
        return self.budget.progress(self.counters)

    # -- the loop ------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train until the budget is spent; a run that was interrupted goes on where its checkpoint is.

        PyTorch's global random state (which dropout reads) is seeded for the run and given back afterwards.
        """
        self.supply.attach(self.learner)
        random_state = seeded(fold_seed(self.seed, "training"), accelerators_of([self.device]))
        with random_state, GracefulInterrupt() as interrupt:
            self._resume()
            self._call("on_train_start")
            train_mode(self.model)
            try:
                while self.progress < 1 and self.state.stop_reason is None:
                    self._train_epoch(interrupt)
            finally:
                self.model.eval()
                self._call("on_train_end")
            if self.counters.steps == 0 and self.state.stop_reason in (None, HANDLED):
                raise ConfigError(
                    f"no update was made: the budget of {self.budget} was used up before a batch was full; give a"
                    " longer budget, a smaller batch_size, or a selection that keeps more"
                )
            if self.state.best is not None:
                self.state.load_weights(self.state.best)
            self._checkpoint()
            if interrupt.requested:
                raise KeyboardInterrupt

    def _train_epoch(self, interrupt: GracefulInterrupt) -> None:
        state = self.state
        if not state.in_epoch:
            self._start_epoch()
        # Closed by name: workers that read ahead would outlive an exception.
        with closing(self.supply.batches()) as batches:
            self._train_on(batches, interrupt)
        self._count_supply()
        self._end_epoch()

    def _train_on(self, batches: Iterator[Batch | None], interrupt: GracefulInterrupt) -> None:
        """Update with one batch after another, until the epoch or the budget ends."""
        state = self.state
        started = time.perf_counter()
        while True:
            self._announce_progress()
            try:
                batch = next(batches)
            except StopIteration:
                self._settle(started)
                return
            if batch is not None:
                self._call("on_batch_start")
                self._update(batch)
            self._count_supply()
            now = time.perf_counter()
            state.counters.seconds += now - started
            started = now
            if batch is not None:
                self._call("on_batch_end")
            # Before the interrupt: a checkpoint here would be resumed behind the epoch's end.
            if self.progress >= 1 or state.stop_reason is not None:
                self._settle(started)
                return
            if interrupt.requested:
                interrupt.acknowledge()
                self._checkpoint()
                raise KeyboardInterrupt
            if self._checkpoints.due(state.counters.steps):
                self._checkpoint()

    def _settle(self, started: float) -> None:
        """Wait for an accelerator to do what it was told, and count the time that it took since."""
        if is_accelerator(self.device):
            synchronise(self.device)
            self.counters.seconds += time.perf_counter() - started

    def _start_epoch(self) -> None:
        counters = self.counters
        if self.supply.start_epoch(
            counters.epoch, self.batch_size, progress=self.progress, epochs=counters.epochs
        ):
            self._begin_stage()
        self.state.in_epoch = True
        self._call("on_epoch_start")

    def _announce_progress(self) -> None:
        """What depends on how far the run is: learning rate, a mix' coefficients, a selection's schedules."""
        progress = self.progress
        self.supply.advance(progress)
        self.state.tuning.advance(progress)
        scale_learning_rate(self.state.optimizer, self.state.schedule.factor(progress))

    def _update(self, batch: Batch) -> None:
        """Mix, forward, loss, backward, update, observe."""
        state, supply = self.state, self.supply
        state.lr = float(state.optimizer.param_groups[0]["lr"])
        if batch.step is not None:  # the look-ahead has made this update already
            mixed, step = Mixed(*batch.read(self.data.train), batch.weights), batch.step
            self._check_finite(step.losses)
        else:
            mixed = supply.mixed(batch)
            if batch.logits is not None:  # the scoring pass is the training pass
                step = Step(batch.logits, self.loss(batch.logits, soft(mixed.target, self.data.num_classes)))
            else:
                step = self.learner.losses(mixed.x, mixed.target, supply.mix.forward_context())
            self._check_finite(step.losses)
            if mixed.weights is not None and step.losses.ndim == 0:
                raise ConfigError(
                    "the selection weighs losses, and the loss gives one number for the whole batch: let it"
                    " give one a sample (reduction='none')"
                )
            self.learner.update(step, mixed.weights)
        if state.average is not None:
            state.average.update_parameters(self.model)
        if state.schedule.listens:
            state.schedule.observe(step.losses.mean().item())
        target = soft(mixed.target, self.data.num_classes)
        if batch.weights is not None:
            target = target / target.sum(1, keepdim=True).clamp(min=1e-12)
        state.meter.add(step.losses, step.logits, target)
        own = state.tuning.passes(len(mixed.x)) if batch.passes is None else state.tuning.priced(batch.passes)
        state.counters.trained(self._priced(own))
        supply.observe(batch, step)

    def _count_supply(self) -> None:
        """Count what it took to come by a batch."""
        raw, passes = self.supply.spent()
        self.counters.raw_samples += raw
        self.counters.passed(self._priced(self.state.tuning.priced(passes)))
        self.counters.count_epochs(len(self.data.train))

    def _logits(self, x: Tensor) -> Tensor:
        """The forward pass as the settings want it; float32."""
        if self.settings.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            return as_logits(self.forward(x), len(x), self.data.num_classes)

    def _end_epoch(self) -> None:
        if not self.state.meter.all_finite():
            raise self._not_finite()
        if self.supply.starved:
            self.state.stop_reason = HANDLED
        counters = self.counters
        record: dict[str, Any] = {
            "epoch": counters.epoch,
            "step": counters.steps,
            "samples": counters.samples,
            "raw_samples": counters.raw_samples,
            "cost": counters.cost,
            "forwarded": counters.forwarded,
            "backpropagated": counters.backpropagated,
            "lr": self.state.lr,
            "train": self.state.meter.compute(),
            "param_norm": parameter_norm(self.model),
        }
        record.update(self.supply.describe())
        if self._evaluation_due():
            record["val"] = self._validate()
            if self.evaluates_train:
                record["train_set"] = classification_metrics(*self._predict(self.data.train.with_augment(None)))
        record["system"] = self._system_record()
        self.history.append(record)
        if self.folder is not None:
            self.folder.append_metrics(record)
        if self.supply.complete:
            counters.epoch += 1
            counters.epoch_share = 0.0
            self.state.in_epoch = False
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
        metrics = classification_metrics(*self._predict(self.data.val))
        watch = self.settings.watch
        watched = -metrics["loss"] if watch == "loss" else metrics[watch.replace("-", "_")]
        if not math.isfinite(metrics["loss"]):
            raise self._not_finite()
        if self.settings.keep == "best" and watched > state.best_metric:
            state.best_metric, state.best = watched, state.weights()
        outcome = self.supply.mix.step(watched)
        if outcome == "improved":
            state.stage_best = state.weights()
        elif outcome == "switched":
            self._begin_stage()
        return metrics

    def _predict(self, view: View) -> tuple[Tensor, Tensor]:
        """Logits and labels of a whole view."""
        self.counters.evaluated += len(view)
        with self._autocast():
            return predict_view(self.state.evaluated_model, view, channels_last=self.settings.channels_last)

    def _begin_stage(self) -> None:
        """A cascade moved on: back to the best weights of the stage that ended."""
        if self.state.stage_best is not None:
            self.state.load_weights(self.state.stage_best)
            self.state.stage_best = None
        effects = self.supply.mix.effects_of_switch()
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
        state = {
            **self.state.state_dict(),
            "supply": self.supply.state_dict(),
            "metrics_bytes": self.folder.sync_metrics(),
        }
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
        self.supply.load_state_dict(state["supply"])
        self.history = self.folder.rewind_metrics(state["metrics_bytes"])
        self._checkpoints.done(self.counters.steps)

    def _autocast(self) -> torch.autocast:
        kind = _AUTOCAST.get(self.settings.precision)
        return torch.autocast(self.device.type, dtype=kind, enabled=kind is not None)

    def _call(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def _check_finite(self, losses: Tensor) -> None:
        """On the CPU before every update; elsewhere rarely, since reading a value stalls the device."""
        if self.device.type == "cpu":
            if not math.isfinite(losses.detach().mean().item()):
                raise self._not_finite()
        elif self.counters.steps % _FINITE_CHECK_STEPS == 0 and not self.state.meter.all_finite():
            raise self._not_finite()

    def _not_finite(self) -> NotFinite:
        newest = self.folder.checkpoints.newest() if self.folder is not None else None
        kept = f"the last good checkpoint is {newest.name}" if newest is not None else "no checkpoint was kept"
        cause = f"a learning rate that is too high (lr={self.state.lr:g}), or NaN in the data"
        if self.settings.precision == "fp16":
            cause += ", or values beyond the range of fp16 (try bf16)"
        late = "" if self.device.type == "cpu" else f" or up to {_FINITE_CHECK_STEPS} steps before"
        return NotFinite(
            f"the loss is NaN or infinite at step {self.counters.steps}{late} (epoch {self.counters.epoch});"
            f" {kept}; the likely cause is {cause}"
        )
