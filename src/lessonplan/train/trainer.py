"""The training loop, told once."""

from __future__ import annotations

import math
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lessonplan.batch import Batch
from lessonplan.data import Data, View
from lessonplan.errors import ConfigError, LessonplanError, LessonplanWarning, RunFailed
from lessonplan.evaluate.classification import classification_metrics
from lessonplan.mix import Network
from lessonplan.network.accelerator import accelerators_of, is_accelerator, synchronise
from lessonplan.network.counters import Counters
from lessonplan.network.learner import Learner, Step, restart, soft
from lessonplan.network.network import LossFunction, as_logits
from lessonplan.network.passes import Passes
from lessonplan.network.ranks import ALONE, Ranks
from lessonplan.network.synced_norm import synced
from lessonplan.network.untouched import seeded
from lessonplan.plan import Plan
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.supply.epoch import HANDLED, Mixed, Part
from lessonplan.train.budget import Budget
from lessonplan.train.cadence import Cadence
from lessonplan.train.callbacks import Callback
from lessonplan.train.history import History
from lessonplan.train.interrupt import GracefulInterrupt
from lessonplan.train.metrics import norm_of, predict_view
from lessonplan.train.optimizer import OptimizerFactory, learning_schedule, scale_learning_rate
from lessonplan.train.preparation import named_loss, prepare
from lessonplan.train.replica import Replica, level_buffers, through
from lessonplan.train.run_folder import RunFolder
from lessonplan.train.state import TrainingState
from lessonplan.train.usage import MachineUse

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FINITE_CHECK_STEPS = 100


class NotFinite(LessonplanError):
    """The loss became NaN or infinite."""


class Trainer:
    """One run: a network, its data, a plan and a budget.

    ``fit`` is the way in; callbacks see this object. ``priced`` says what passes through the model cost where it
    is a part of a larger network. Public attributes: ``data``, ``plan``, ``budget``, ``settings``,
    ``state`` (everything that changes, see ``TrainingState``), ``history`` (a record an epoch) and ``ranks`` (who
    trains; only the first one has a ``folder``).
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
        ranks: Ranks = ALONE,
    ) -> None:
        self.data, self.plan, self.budget, self.settings, self.seed = data, plan, budget, settings, seed
        ranks = replace(ranks, sharded=settings.shard)
        self.folder, self.callbacks, self.ranks = folder, callbacks, ranks
        self._priced = priced or (lambda passes: passes)
        self.device = data.train.device
        linear = loss is None and settings.linear_loss
        self.batch_size, self.supply = prepare(plan, data, settings, seed, linear=linear, ranks=ranks)
        example = torch.zeros(1, *data.shape, device=self.device)
        shards = None
        if settings.shard:
            from lessonplan.train.shards import Shards  # what it imports takes a second

            shards = Shards(model, self.device, example, ranks, settings)
            model = shards.borrowed()
        if settings.batch_norm == "sync" and not ranks.alone:
            model = synced(model, self.device)
        self.state = TrainingState(model, plan, settings, self.device, optimizer, example, seed, shards)
        self.forward: Callable[[Tensor], Tensor] = torch.compile(model) if settings.compile else model
        self.loss = loss or named_loss(settings, plan)
        self.network = Network(model, self.loss, self._logits, self.state.scaler.scale, ranks)
        self.learner = Learner(self.network, self.state.optimizer, self.state.scaler, settings.clip)
        self._together = self.learner  # whose updates are those of all ranks
        self._replica: Replica | None = None
        if not ranks.alone:
            forward: Callable[[Tensor], Tensor] = through(model)
            if shards is None:
                forward = self._replica = Replica(self.forward, example, ranks, settings.grad_reduce)  # type: ignore[arg-type]
            network = Network(model, self.loss, lambda x: self._logits(x, forward), self.state.scaler.scale, ranks)
            self._together = Learner(network, self.state.optimizer, self.state.scaler, settings.clip)
        self.supply.network = self.network
        self.history = History()
        self._machine = MachineUse(self.device)
        self._checkpoints = Cadence.parse(settings.checkpoint_every)
        self._mine = 0  # a number for the batch that this rank has trained on
        self._each: list[Any] | None = None  # what each rank had of its own at the checkpoint
        self._stored: dict[str, Any] | None = None  # the checkpoint, whole, until all ranks have their parts of it
        self._broken = False  # whether its losses were finite

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
        apart = () if self.ranks.first else ("rank", self.ranks.rank)
        random_state = seeded(fold_seed(self.seed, "training", *apart), accelerators_of([self.device]))
        with random_state, GracefulInterrupt(twice=not self.ranks.alone) as interrupt:
            self._resume()
            self.tell("on_train_start")
            self.state.tuning.train_mode()
            try:
                while self.progress < 1 and self.state.stop_reason is None:
                    self._train_epoch(interrupt)
            finally:
                self.model.eval()
                self.tell("on_train_end")
            if self.counters.steps == 0 and self.state.stop_reason in (None, HANDLED):
                raise ConfigError(
                    f"no update was made: the budget of {self.budget} was used up before a batch was full; give a"
                    " longer budget, a smaller batch_size, or a selection that keeps more"
                )
            if self.counters.steps == 1 and self.state.lr == 0.0:
                warnings.warn(
                    "the only update had a learning rate of 0, where the schedule"
                    f" {learning_schedule(self.settings)} begins, so that nothing was learned: give a longer"
                    " budget, or schedule=constant",
                    LessonplanWarning,
                    stacklevel=4,
                )
            if self.state.best is not None:
                self.state.load_weights(self.state.best)
            self._checkpoint()
            if self.ranks.any(interrupt.requested):
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
                self.tell("on_batch_start")
                self._update(batch)
            self._count_supply()
            now = time.perf_counter()
            state.counters.seconds += now - started
            started = now
            if batch is not None:
                self.tell("on_batch_end")
            requested, due = self._agreed(interrupt)
            # Before the interrupt: a checkpoint here would be resumed behind the epoch's end.
            if self.progress >= 1 or state.stop_reason is not None:
                self._settle(started)
                return
            if requested:
                interrupt.acknowledge()
                self._checkpoint()
                raise KeyboardInterrupt
            if due:
                self._checkpoint()

    def _agreed(self, interrupt: GracefulInterrupt) -> tuple[bool, bool]:
        """Whether all ranks are to stop, and whether a checkpoint is due: one word for all, by the first's clock.

        Raises:
            NotFinite: a rank's loss is not finite.
            RunFailed: ranks have trained on different batches.
        """
        state, due = self.state, self._checkpoints.due(self.counters.steps)
        if self.ranks.alone:
            return interrupt.requested, due
        stops = state.stop_reason is not None
        said = self.ranks.table(
            [interrupt.requested, due, state.counters.seconds, self._broken, self._mine, stops]
        )
        if any(row[3] for row in said):
            raise self._not_finite(self.counters.steps - 1)  # the update has been counted
        different = [rank for rank, row in enumerate(said) if row[4] != said[0][4]]
        if different:
            raise RunFailed(
                f"rank {different[0]} has trained on other samples than rank 0 at step {self.counters.steps}:"
                " their choices differ, perhaps with their processors; start ranks on machines of one kind"
            )
        state.counters.seconds = said[0][2]
        if any(row[5] for row in said):
            reasons = [str(reason or "") for reason in self.ranks.all_told(state.stop_reason)]
            state.stop_reason = next(filter(None, reasons))
        return any(row[0] for row in said), bool(said[0][1])

    def _settle(self, started: float) -> None:
        """Wait for an accelerator to do what it was told, and count the time that it took since."""
        if is_accelerator(self.device):
            synchronise(self.device)
            self.counters.seconds += time.perf_counter() - started
            if not self.ranks.alone:
                self.counters.seconds = self.ranks.table([self.counters.seconds])[0][0]

    def _start_epoch(self) -> None:
        counters = self.counters
        if self.supply.start_epoch(
            counters.epoch, self.batch_size, progress=self.progress, epochs=counters.epochs
        ):
            self._begin_stage()
        self.state.in_epoch = True
        self.tell("on_epoch_start")

    def _announce_progress(self) -> None:
        """What depends on how far the run is: learning rate, a mix' coefficients, a selection's schedules."""
        progress = self.progress
        self.supply.advance(progress)
        self.state.tuning.advance(progress)
        scale_learning_rate(self.state.optimizer, self.state.schedule.factor(progress, self.counters.epochs))

    def _update(self, batch: Batch) -> None:
        """Mix, forward, loss, backward, update, observe."""
        state, supply = self.state, self.supply
        state.lr = float(state.optimizer.param_groups[0]["lr"])
        if batch.step is not None:  # the look-ahead has made this update already
            part, step = self._part_of_made(batch), batch.step
            target = soft(part.mixed.target, self.data.num_classes)
            self._check_finite(step.losses)
        else:
            part = supply.part(batch)
            mixed = part.mixed
            target = soft(mixed.target, self.data.num_classes)
            if batch.logits is not None:  # the scoring pass is the training pass
                step = Step(batch.logits, self.loss(batch.logits, target))
            else:
                if self._replica is not None:
                    self._replica.prepare()
                step = self._together.losses(mixed.x, target, supply.mix.forward_context())
            self._check_finite(step.losses)
            if step.losses.ndim == 0 and not self.ranks.alone:
                raise ConfigError(
                    f"the loss gives one number for a whole batch, of which {self.ranks.count} ranks have parts:"
                    " let it give one a sample (reduction='none')"
                )
            if mixed.weights is not None and step.losses.ndim == 0:
                raise ConfigError(
                    "the selection weighs losses, and the loss gives one number for the whole batch: let it"
                    " give one a sample (reduction='none')"
                )
            self._together.update(step, mixed.weights, part.factor)
            level_buffers(self.model, self.ranks)
        if state.average is not None:
            state.average.update_parameters(self.model)
        if state.schedule.listens:
            state.schedule.observe(self._mean_loss(step.losses, part), supply.mix.mixed_k())
        self._note(batch, part, step, target)
        own = state.tuning.passes(part.total) if batch.passes is None else state.tuning.priced(batch.passes)
        state.counters.trained(self._priced(own))
        supply.observe(batch, step)

    def _part_of_made(self, batch: Batch) -> Part:
        """A batch whose update was made on all of it: by all ranks, if there are several."""
        mixed = Mixed(*batch.read(self.data.train), batch.weights)
        return Part(mixed, 1.0, len(batch), len(batch))

    def _note(self, batch: Batch, part: Part, step: Step, target: Tensor) -> None:
        """Take note of losses and hits, of this rank's own samples where there are others."""
        if batch.weights is not None:
            target = target / target.sum(1, keepdim=True).clamp(min=1e-12)
        losses, logits, own = step.losses, step.logits, slice(part.rows)
        if self.ranks.alone:
            self.state.meter.add(losses, logits, target)
            return
        self._mine = zlib.crc32(batch.indices.numpy().tobytes())
        if batch.step is not None:
            own = self.ranks.part(part.total)
        self.state.meter.add(losses[own], logits[own], target[own])

    def _mean_loss(self, losses: Tensor, part: Part) -> float:
        """The mean loss of the batch."""
        if self.ranks.alone or part.rows == len(losses) == part.total:
            return losses.mean().item()
        return self.ranks.summed([losses[: part.rows].sum().item()])[0] / part.total

    def _count_supply(self) -> None:
        """Count what it took to come by a batch."""
        raw, passes = self.supply.spent()
        self.counters.raw_samples += raw
        self.counters.passed(self._priced(self.state.tuning.priced(passes)))
        self.counters.count_epochs(len(self.data.train))

    def _logits(self, x: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The forward pass as the settings want it; float32."""
        if self.settings.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            return as_logits((forward or self.forward)(x), len(x), self.data.num_classes)

    def _end_epoch(self) -> None:
        trained = self.state.meter.compute(self.ranks)
        if trained is not None and not math.isfinite(trained["loss"]):  # the mean of all, in float64
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
            "train": trained,
            "param_norm": norm_of(self.state.parameters, self.ranks),
        }
        record.update(self.supply.describe())
        if self._evaluation_due():
            self._evaluate(record)
        record["system"] = self._system_record()
        self.history.append(record)
        if self.folder is not None:
            self.folder.append_metrics(record)
        if self.supply.complete:
            counters.epoch += 1
            counters.epoch_share = 0.0
            self.state.in_epoch = False
        self.tell("on_epoch_end")

    def _system_record(self) -> dict[str, float]:
        seconds, samples = self.counters.seconds, self.counters.samples
        if self.history:
            last = self.history[-1]  # of a file that somebody may have edited
            passed = seconds - float((last.get("system") or {}).get("seconds", seconds))
            samples -= int(last.get("samples", samples))
        else:
            passed = seconds
        speed = samples / max(passed, 1e-9)
        return {"seconds": seconds, "samples_per_second": speed, **self._machine.now()}

    # -- what validation decides ---------------------------------------------------------------------

    def _evaluate(self, record: dict[str, Any]) -> None:
        """Judge the parts that are to be watched; the validation part alone decides anything."""
        self.state.last_evaluation = self.counters.samples
        if self.data.val is not None:
            record["val"] = self._validate(self.data.val)
        if self._watches_test:
            assert self.data.test is not None
            record["test"] = self._judged(self.data.test)
        if self.evaluates_train:
            record["train_set"] = self._judged(self.data.train.with_augment(None))

    @property
    def _watches_test(self) -> bool:
        return self.settings.evaluate_test == "curve"

    def _evaluation_due(self) -> bool:
        if self.data.val is None and not self._watches_test and not self.settings.evaluate_train:
            return False
        if self.progress >= 1 or self.state.stop_reason is not None:
            return True
        every = self.settings.evaluate_every
        if every == "auto":
            return self.counters.samples - self.state.last_evaluation >= len(self.data.train)
        return (self.counters.epoch + 1) % every == 0

    def _validate(self, view: View) -> dict[str, float]:
        """Evaluate, keep what is best, and let the mix decide whether its next stage begins."""
        state = self.state
        metrics = self._judged(view)
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

    def _judged(self, view: View) -> dict[str, float]:
        """The metrics of a whole view; those that the first rank finds, for all."""
        self.counters.evaluated += len(view)
        with self._autocast():
            found = predict_view(
                self.state.evaluated_model, view, channels_last=self.settings.channels_last, ranks=self.ranks
            )
        return self.ranks.by_first(lambda: classification_metrics(*found))

    def _begin_stage(self) -> None:
        """A cascade moved on: back to the best weights of the stage that ended."""
        if self.state.stage_best is not None:
            self.state.load_weights(self.state.stage_best)
            self.state.stage_best = None
        effects = self.supply.mix.effects_of_switch()
        if effects.reset_optimizer:
            restart(self.state.optimizer)
        if effects.restart_lr:
            self.state.schedule.restart(self.progress, self.counters.epochs)

    # -- checkpoints and trouble ---------------------------------------------------------------------

    def _checkpoint(self) -> None:
        if self.folder is None and self.ranks.alone:
            return
        # The last update may have broken the weights behind a loss that was still finite.
        sound = math.isfinite(norm_of(self.state.parameters, self.ranks))
        if not self.ranks.all(self.state.meter.all_finite() and sound):
            raise self._not_finite()
        each = None if self.ranks.alone else self.ranks.all_told(self.state.own_state())
        everything = self._put_together() if self.folder is not None or self.ranks.sharded else {}
        if self.folder is not None:
            state = {**everything, "metrics_bytes": self.folder.sync_metrics()}
            if each is not None:
                state["ranks"] = each
            self.folder.checkpoints.save(self.counters.steps, state)
        self._checkpoints.done(self.counters.steps)

    def _resume(self) -> None:
        """Go on where the newest checkpoint is; all ranks begin with the first one's state, and own streams."""
        begun = self.ranks.by_first(self._read_checkpoint)
        if not self.ranks.alone:
            state, each, records = self.ranks.told([self._for_others(), self._each, list(self.history)])
            self.history = History(records)
            own = self.state.own_state() if each is None else each[self.ranks.rank]
            if not self.ranks.first:
                self._take_back({**self._everything(), **state, "metrics_bytes": 0})
            self._stored = None
            self.state.load_own_state(own)
            self._checkpoints.done(self.counters.steps)
        if not begun:
            # A model made by the user may start from other weights next time: keep these.
            self._checkpoint()

    def _read_checkpoint(self) -> bool:
        """Take back what the folder holds; whether there was anything."""
        if self.folder is None:
            return False
        self.folder.claim(torch.get_num_threads())
        length = self.folder.checkpoints.resume(
            self._take_back, lambda: {**self._everything(), "metrics_bytes": 0}
        )
        if length is None:
            self._stored = None
            self.folder.rewind_metrics(0)
            return False
        self.history = History(self.folder.rewind_metrics(length))
        self._checkpoints.done(self.counters.steps)
        return True

    def _everything(self) -> dict[str, Any]:
        """All that a checkpoint holds but for the length of the metrics."""
        return {**self.state.state_dict(), "supply": self.supply.state_dict()}

    def _put_together(self) -> dict[str, Any]:
        """The same, whole, where ranks have parts of it; then all ranks have to ask, and the first one gets it."""
        shards, everything = self.state.shards, self._everything()
        if shards is None:
            return everything
        shards.check_state(self.state.optimizer)
        whole: dict[str, Any] = shards.whole(everything)
        return whole

    def _for_others(self) -> dict[str, Any]:
        """What the first rank tells the others as training begins or goes on.

        Of a network that is shared out it is the whole checkpoint; or without one nothing, because all had the
        same weights before they were shared out.
        """
        if self.state.shards is None:
            return self._everything()
        if self._stored is not None:
            return self._stored
        in_parts = ("weights", "optimizer", "best", "stage_best")
        return {name: value for name, value in self._everything().items() if name not in in_parts}

    def _take_back(self, state: dict[str, Any]) -> int:
        """Go back to a checkpoint; returns how long the metrics were."""
        self.state.load_state_dict(state)
        self.supply.load_state_dict(state["supply"])
        self._each = state.get("ranks")
        self._stored = state if self.state.shards is not None else None
        return int(state["metrics_bytes"])

    def _autocast(self) -> AbstractContextManager[object]:
        kind = _AUTOCAST.get(self.settings.precision)
        if kind is None and not torch.is_autocast_enabled(self.device.type):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=kind, enabled=kind is not None)

    def tell(self, event: str, *told: object) -> None:
        """Call a hook of all callbacks."""
        for callback in self.callbacks:
            getattr(callback, event)(self, *told)

    def _check_finite(self, losses: Tensor) -> None:
        """On the CPU before every update; elsewhere rarely, since reading a value stalls the device.

        Of several ranks all have to hear of it, which they do behind the update.
        """
        broken = False
        if self.device.type == "cpu":
            broken = not math.isfinite(losses.detach().mean().item())
        elif self.counters.steps % _FINITE_CHECK_STEPS == 0:
            broken = not self.state.meter.all_finite()
        if broken and self.ranks.alone:
            raise self._not_finite()
        self._broken = broken

    def _not_finite(self, step: int | None = None) -> NotFinite:
        """What to raise, the same on all ranks, which all ask for it."""
        return NotFinite(self.ranks.by_first(lambda: self._what_is_not_finite(step)))

    def _what_is_not_finite(self, step: int | None) -> str:
        newest = self.folder.checkpoints.newest() if self.folder is not None else None
        kept = f"the last good checkpoint is {newest.name}" if newest is not None else "no checkpoint was kept"
        cause = f"a learning rate that is too high (lr={self.state.lr:g}), or NaN in the data"
        if self.settings.precision == "fp16":
            cause += ", or values beyond the range of fp16 (try bf16)"
        late = "" if self.device.type == "cpu" else f" or up to {_FINITE_CHECK_STEPS} steps before"
        return (
            f"the loss is NaN or infinite at step {self.counters.steps if step is None else step}{late}"
            f" (epoch {self.counters.epoch}); {kept}; the likely cause is {cause}"
        )
