"""Hugging Face's Trainer (``pip install 'lessonplan[transformers]'``): a Trainer that mixes, or its pieces."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from lessonplan.data import View
from lessonplan.errors import ConfigError, DataError, LessonplanWarning, first_line, require
from lessonplan.integrations.given import mix_for, the_mix
from lessonplan.integrations.packages import need
from lessonplan.integrations.ranks import gather, scatter
from lessonplan.mix.base import Mix
from lessonplan.mix.stages import Stages
from lessonplan.network.learner import restart
from lessonplan.network.network import Network, as_logits, soft_cross_entropy
from lessonplan.plan import Plan

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
else:
    _library = need("transformers", "transformers")
    need("accelerate", "accelerate")
    Trainer, TrainerCallback = _library.Trainer, _library.TrainerCallback

__all__ = ["MixCallback", "MixCollator", "MixTrainer", "Samples", "soft_label_loss"]

STATE_FILE = "lessonplan.pt"
"""In a checkpoint's folder: the mix of every process, and the best weights of a stage that has not ended."""

_ELSEWHERE = "the Trainer reads its batches ahead of the update: train such a plan in a loop on lessonplan.batches"


def soft_label_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Cross-entropy for soft targets and for labels: ``Trainer(compute_loss_func=soft_label_loss)``.

    Without it models take soft targets for labels of several classes, and minimise a binary cross-entropy.

    Args:
        outputs: of the model, with ``logits`` ``(M, C)``.
        labels: ``(M, C)`` float or ``(M,)`` class numbers.
        num_items_in_batch: how many labels an update counts, as the Trainer counts them (every entry of a target
            ``(M, C)`` is one); None is this batch's.
    """
    logits = as_logits(outputs, len(labels))
    if num_items_in_batch is None:
        return F.cross_entropy(logits, labels)
    items = num_items_in_batch / (labels.shape[1] if labels.is_floating_point() else 1)
    return F.cross_entropy(logits, labels, reduction="sum") / items


class Samples(Dataset[dict[str, Any]]):
    """Samples ``(x, y)`` as dictionaries, by the names that models of transformers give their inputs.

    Args:
        view: a part of what ``lessonplan.data.load`` returned, read a batch at once, or any map-style data set.
        inputs: the name of what the model looks at; the class is ``"labels"``.
    """

    def __init__(self, view: View | Dataset[tuple[Any, Any]], inputs: str = "pixel_values") -> None:
        require(hasattr(view, "__len__"), f"{view!r} has no length: give samples by position")
        self.view, self.inputs = view, inputs

    def __len__(self) -> int:
        return len(self.view)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Many samples at once; a DataLoader asks for its batches in this way."""
        many = getattr(self.view, "__getitems__", None)
        pairs = many(indices) if many is not None else [self.view[index] for index in indices]
        return [{self.inputs: x, "labels": int(y)} for x, y in pairs]


class MixCollator:
    """A ``data_collator`` that mixes in the Trainer's workers; for a Trainer of one's own.

    A Trainer has one collator for training and evaluation: override ``get_eval_dataloader`` to use ``self.plain``
    there, or take ``MixTrainer``. ``MixCallback`` raises where evaluation is mixed too, or where the model's own
    loss gets soft targets (``soft_label_loss``).

    Args:
        mix: with ``num_classes``.
        plain: what makes a batch of samples; None is ``transformers.default_data_collator``.
        inputs: name of what is mixed.
    """

    def __init__(
        self,
        mix: Mix,
        plain: Callable[[Sequence[Any]], dict[str, Any]] | None = None,
        inputs: str = "pixel_values",
    ) -> None:
        self.mix, self.inputs = the_mix(mix), inputs
        self.plain = plain or need("transformers", "transformers").default_data_collator

    def __call__(self, samples: Sequence[Any]) -> dict[str, Any]:
        batch = self.plain(samples)
        _check_batch(batch, self.inputs)
        x, target = self.mix(batch[self.inputs], batch["labels"])
        return {**batch, self.inputs: x, "labels": target}


class MixCallback(TrainerCallback):
    """Tells a mix how far training is, and keeps what it needs in the Trainer's checkpoints.

    Args:
        mix: the object that the collator or the loss mixes with.
        monitor: name of an evaluation's metric (``"eval_accuracy"``), for cascades that switch on plateaus.
        mode: whether ``"max"`` or ``"min"`` of it is better.

    Attributes:
        checkpoint: the folder that training resumes from; None looks where the Trainer's arguments say.

    Raises:
        ConfigError: a metric or a checkpoint's part is missing, or the Trainer uses a ``MixCollator`` wrongly.
    """

    def __init__(self, mix: Mix, monitor: str | None = None, mode: Literal["max", "min"] = "max") -> None:
        require(mode in ("max", "min"), f"mode={mode!r}: give max or min")
        if the_mix(mix).needs_validation() and monitor is None:
            raise ConfigError(
                f"{mix} switches on plateaus of a metric: give monitor='eval_...', or let it switch by shares"
            )
        self.mix, self.monitor, self.mode = mix, monitor, mode
        self.checkpoint: Path | None = None
        self._stages: Stages | None = None
        self._problem: Any = None
        self._within: int | None = None  # the step in an epoch from which training goes on
        self._heard, self._instead = False, list[str]()  # since the last step: the metric, and other ones

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Get to know the network; take back the state where training resumes."""
        optimizer = known["optimizer"]
        model: nn.Module = known["model"]
        self._stages = Stages(self.mix, model, on_switch=lambda: self._switched(optimizer))
        self._problem = _problem_type(model)
        self._heard, self._instead = False, []
        if self.mix.needs_validation() and getattr(args.eval_strategy, "value", args.eval_strategy) == "no":
            warnings.warn(
                f"{self.mix} switches on plateaus of {self.monitor!r}, and the Trainer evaluates nothing by"
                " itself: give eval_strategy='epoch', or let it switch by shares",
                LessonplanWarning,
                stacklevel=2,
            )
        self._within = None
        if state.global_step > 0:
            in_epoch = (state.epoch or 0.0) % 1.0
            self._within = state.global_step if 1e-6 < in_epoch < 1.0 - 1e-6 else None
            self._resume(args, state.global_step)

    def _switched(self, optimizer: Any) -> None:
        if self.mix.effects_of_switch().reset_optimizer:
            restart(getattr(optimizer, "optimizer", optimizer))  # accelerate wraps it

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Say how far training is; an epoch that is gone on with does not begin anew."""
        assert self._stages is not None
        progress = min(1.0, state.global_step / state.max_steps)
        self._stages.advance(progress, epoch_start=state.global_step != self._within)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """The same for what changes within an epoch."""
        assert self._stages is not None
        self._check_heard()
        self._stages.advance(min(1.0, state.global_step / state.max_steps), epoch_start=False)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Look whether the model took soft targets for something else."""
        now = _problem_type(known["model"])
        if now == "multi_label_classification" != self._problem:
            raise ConfigError(
                "the model took mixed targets for labels of several classes and minimises a binary cross-entropy:"
                " give Trainer(compute_loss_func=lessonplan.integrations.transformers.soft_label_loss)"
            )

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Look whether evaluation is mixed too."""
        if _collator(known.get("eval_dataloader")) is not None:
            raise ConfigError(
                "the collator mixes what is evaluated too: override get_eval_dataloader to use collator.plain, or"
                " take lessonplan.integrations.transformers.MixTrainer"
            )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **known: Any,
    ) -> None:
        """Say the monitored metric; evaluations of other data, and those after training, are not meant."""
        if self.monitor is None or self._stages is None:
            return
        if metrics is None or self.monitor not in metrics:
            self._instead += metrics or []
            return
        self._heard = True
        value = float(metrics[self.monitor])
        self._stages.step(value if self.mode == "max" else -value)

    def _check_heard(self) -> None:
        """Raise where there was an evaluation since the last step, and none had the metric."""
        heard, instead = self._heard, self._instead
        self._heard, self._instead = False, []
        if instead and not heard:
            raise ConfigError(
                f"monitor={self.monitor!r} is no metric of the evaluation, which has {', '.join(instead)}"
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any
    ) -> None:
        """Forget the network: it is evaluated without a word to the mix from now on."""
        self._stages = None
        self._check_heard()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: Any) -> None:
        """Put the state beside the model's."""
        assert self._stages is not None
        everything = {"mix": gather(self.mix), "best": self._stages.best}
        if state.is_world_process_zero:
            torch.save(everything, _checkpoint(args, state.global_step) / STATE_FILE)

    def _resume(self, args: TrainingArguments, step: int) -> None:
        assert self._stages is not None
        given = self.checkpoint or getattr(args, "resume_from_checkpoint", None)
        folder = Path(given) if isinstance(given, (str, Path)) else _checkpoint(args, step)
        file = folder / STATE_FILE
        if not file.exists():
            raise ConfigError(
                f"training resumes at step {step}, and {file} is not there: set callback.checkpoint to the folder"
                " that it resumes from, one which was written with this callback"
            )
        try:
            stored = torch.load(file, map_location="cpu", weights_only=True)
            state, best = stored["mix"], stored["best"]
        except Exception as error:  # whatever a damaged archive makes the reader raise
            raise DataError(
                f"{file} is damaged or not of this callback ({first_line(error)}): resume from another checkpoint"
            ) from None
        scatter(self.mix, state)
        self._stages.best = best


class MixTrainer(Trainer):
    """A Trainer that mixes what it trains on, and nothing of what it evaluates::

        mix = lp.mix.Cascade(k=4, num_classes=10)
        trainer = MixTrainer(model, args, train_dataset=train, eval_dataset=val, mix=mix)
        trainer.train(resume_from_checkpoint=True)

    Mixing is done in the training step, where every mix can work: those that look into the network too. A run that
    resumes from a checkpoint ends with the same weights, bit for bit where the model does.

    Args:
        mix: a mix, or a plan that only mixes; the model's ``config.num_labels`` is its ``num_classes`` where it
            has none.
        monitor, mode: see ``MixCallback``.
        inputs: name of what is mixed among the model's inputs.

    The others are those of ``transformers.Trainer``; ``compute_loss_func`` gets ``(outputs, target)`` with soft
    targets in training and ``(outputs, labels)`` in evaluation.

    Raises:
        ConfigError: the plan selects or orders, or samples would be mixed twice.
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *given: Any,
        mix: Mix | Plan | str,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        inputs: str = "pixel_values",
        **more: Any,
    ) -> None:
        self.mix = mix_for(mix, _ELSEWHERE)
        self._inputs = inputs
        super().__init__(*given, **more)
        if isinstance(self.data_collator, MixCollator):
            raise ConfigError("the collator mixes and MixTrainer does so again: leave out the MixCollator")
        if self.mix.num_classes is None:
            self.mix.num_classes = getattr(getattr(self.model, "config", None), "num_labels", None)
        self.model_accepts_loss_kwargs = False  # the loss is made here, a mean of the batch
        self._own_loss, self.compute_loss_func = self.compute_loss_func, None
        if self.mix.needs_network():
            module: Any = self.model
            self.mix.attach(Network(module, soft_cross_entropy))
        self.follower = MixCallback(self.mix, monitor, mode)
        self.add_callback(self.follower)

    def train(self, resume_from_checkpoint: str | bool | None = None, *given: Any, **more: Any) -> Any:
        """As the Trainer's."""
        asked = resume_from_checkpoint
        self.follower.checkpoint = Path(asked) if isinstance(asked, (str, Path)) else None
        return super().train(resume_from_checkpoint, *given, **more)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mix while the model is in training mode, and compare its logits with the targets: the batch's mean."""
        del num_items_in_batch
        _check_batch(inputs, self._inputs)
        batch = dict(inputs)
        labels = batch.pop("labels")
        context: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if model.training:
            batch[self._inputs], labels = self.mix(batch[self._inputs], labels)
            context = self.mix.forward_context()
        with context:
            outputs = model(**batch)
        if self._own_loss is not None:
            loss = self._own_loss(outputs, labels)
        else:
            logits = as_logits(outputs, len(labels))
            loss = F.cross_entropy(logits, labels, label_smoothing=self.args.label_smoothing_factor)
        return (loss, outputs) if return_outputs else loss


def _check_batch(batch: Mapping[str, Any], inputs: str) -> None:
    for name in (inputs, "labels"):
        if name not in batch:
            raise ConfigError(
                f"a batch has {', '.join(batch)} and no {name!r}: name what is mixed with inputs=..., and classes"
                " 'labels'"
            )


def _problem_type(model: nn.Module) -> Any:
    return getattr(getattr(model, "config", None), "problem_type", None)


def _collator(loader: Any) -> MixCollator | None:
    """The mixing collator of a loader, whatever the Trainer wrapped it in."""
    found = getattr(loader, "collate_fn", None)
    while found is not None and not isinstance(found, MixCollator):
        found = getattr(found, "data_collator", None)
    return found


def _checkpoint(args: TrainingArguments, step: int) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{step}"
