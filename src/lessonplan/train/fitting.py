"""``fit``: train a network by a plan, within a budget, in a folder that can be resumed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from lessonplan.data import Data
from lessonplan.data.results_place import refuse_among_classes
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.evaluate.classification import classification_metrics, detailed_metrics, parameter_norm
from lessonplan.files import write_json
from lessonplan.lock import sole_user
from lessonplan.models import count_parameters
from lessonplan.models.factory import Factory
from lessonplan.network.network import LossFunction
from lessonplan.network.ranks import Ranks
from lessonplan.network.threads import cpu_threads, own_threads
from lessonplan.plan import Plan
from lessonplan.pretrained.lora import merge
from lessonplan.shown import notebook_html
from lessonplan.stored import read_json
from lessonplan.stores import is_url
from lessonplan.train.beginning import Beginning, begin, lent
from lessonplan.train.budget import Budget
from lessonplan.train.callbacks import Callback
from lessonplan.train.frozen import trainee
from lessonplan.train.history import History
from lessonplan.train.holdout import give_holdouts
from lessonplan.train.joining import check_same, present_ranks, shared_place
from lessonplan.train.judged import Judged
from lessonplan.train.metrics import predict_view
from lessonplan.train.optimizer import OptimizerFactory, learning_schedule
from lessonplan.train.preparation import check_shards
from lessonplan.train.progress import ProgressLine
from lessonplan.train.run_folder import RunFolder, read_metrics
from lessonplan.train.selection_note import SelectionNote
from lessonplan.train.solved import solve_head
from lessonplan.train.trained import load_trained, save_trained, weights_digest
from lessonplan.train.trainer import Trainer
from lessonplan.train.usage import environment


@dataclass
class Run:
    """A finished run.

    Attributes:
        model: the trained network, in evaluation mode.
        result: final metrics, counters and seconds; ``result["test"]["accuracy"]`` in [0, 1].
        records: a record an epoch, as in ``metrics.jsonl``.
        folder: where it lies, or None.
    """

    model: nn.Module
    result: dict[str, Any]
    records: Sequence[dict[str, Any]] = field(repr=False)
    folder: Path | None = None
    _repr_html_ = notebook_html

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The records as a list."""
        return list(self.records)


def fit(
    model: str | nn.Module | Factory = "tiny",
    data: str | Data = "digits",
    plan: Plan | str | None = None,
    budget: str | Budget = "20ep",
    *,
    seed: int = 0,
    out: str | Path | None = None,
    loss: str | LossFunction = "ce",
    optimizer: str | OptimizerFactory = "auto",
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Run:
    """Train a network; called again with the same arguments and folder, it resumes or returns the result.

    With a longer budget of the same unit a finished run goes on: learning rate and whatever else follows the
    share of the budget are from there on those of the longer run.

    Args:
        model: a name (``lessonplan.models.model_names()``), any module from images to logits ``(N, C)``, which is
            trained in place, or a function or class that makes one (``lessonplan.models.factory``), with weights
            drawn by the seed. Parts whose parameters need no gradient keep their running statistics. A module for
            colours takes grey images by the sum of its first convolution over them.
        data: a source's name, or what ``lessonplan.data.load`` returned.
        plan: what happens to samples on their way into the network; None or an empty plan is plain SGD. Its
            mix is given back as it was.
        budget: ``"20ep"``, ``"4000 steps"``, ``"400k samples"``, ``"10min"``, ``"1.2M cost"``.
        seed: of the network's weights (for a name or a function), the order of samples and the mixes.
        out: folder of the run, or a URL that fsspec opens (``s3://bucket/run``; ``Run.folder`` is the local copy
            then); without one nothing is written and nothing can be resumed.
        loss: a name (see ``Settings``), or a function ``(logits, target) -> (M,)`` or scalar.
        optimizer: a name (see ``Settings``), or a factory from parameters to a PyTorch optimizer.
        callbacks: see ``Callback``.
        **settings: see ``Settings``.

    Returns:
        The trained network with its metrics; test data are read once, after training.

    Raises:
        ConfigError: a setting is wrong, or the folder holds a run of another configuration.
        NotFinite: the loss became NaN or infinite.
        KeyboardInterrupt: after Ctrl-C; a checkpoint is saved first.

    >>> run = fit("fcnet-16", "digits", budget="2ep", threads=1)
    >>> 0.0 <= run.result["test"]["accuracy"] <= 1.0
    True
    """
    given: dict[str, Any] = {"seed": seed, "loss": loss, "optimizer": optimizer, "settings": settings}
    if out is not None and not is_url(out):
        refuse_among_classes(out, data)
    with present_ranks() as ranks:
        begun = begin(model, data, plan, **given)
        with shared_place(out, ranks) as place:
            return _fit(begun, Budget.parse(budget), place.folder if place is not None else None, callbacks, ranks)


def _fit(begun: Beginning, budget: Budget, out: Path | None, callbacks: Sequence[Callback], ranks: Ranks) -> Run:
    """Train on one of several ranks, or alone: the folder is the first one's."""
    chosen, plan, data = begun.settings, begun.plan, begun.data
    config = begun.config(budget)
    check_same(ranks, config)
    opened: list[RunFolder] = []
    finished, threads = ranks.by_first(lambda: _open(opened, out, config, ranks))
    folder = opened[0] if opened else None
    if folder is not None and folder.spent is not None:
        share = Budget.parse(folder.spent).amount / budget.amount
        warnings.warn(
            f"the run in {folder.path} had spent its budget of {folder.spent} and goes on to {budget}: the"
            f" schedule {learning_schedule(chosen)}, and all that follows the share of the budget, goes on from"
            f" {100 * share:.0f}% of the longer one",
            LessonplanWarning,
            stacklevel=3,
        )
    if finished is not None:
        network = begun.plain_network()
        known = begun.model if begun.origin is None else None  # weights from elsewhere are in no untrained network
        history = ranks.by_first(lambda: _read_finished(known, network, out, finished))
        network.to(begun.device if not chosen.shard else "cpu")
        if not ranks.alone:
            ranks.level([*network.parameters(), *network.buffers()])
        return Run(network.eval(), finished, History(history), out)
    check_shards(plan, chosen, ranks)
    network = begun.network()
    _check_new(network, folder)
    own = isinstance(begun.model, nn.Module)
    first = weights_digest(network) if folder is not None and own else None
    with cpu_threads(_threads(chosen.threads, threads, out, begun.device.type == "cpu" and ranks.alone)):
        try:
            trained = _first_then_others(lambda: trainee(network, data, plan, chosen), ranks)
            stored = ranks.by_first(lambda: folder is not None and folder.checkpoints.newest() is not None)
            give_holdouts(plan, data, stored=stored)
            with lent(plan):
                trainer = Trainer(
                    trained.network,
                    trained.data,
                    plan,
                    budget,
                    trained.settings,
                    seed=begun.seed,
                    folder=folder,
                    loss=begun.loss,
                    optimizer=begun.optimizer,
                    callbacks=[*callbacks, *([ProgressLine(), SelectionNote()] if ranks.first else [])],
                    priced=trained.priced,
                    ranks=ranks,
                )
                trainer.counters.passed(trained.spent)
                with ExitStack() as held:
                    ranks.by_first(lambda: _hold(held, folder, first))
                    try:
                        try:
                            if chosen.fit_head == "train":
                                trainer.train()
                            else:
                                solve_head(trainer, chosen.fit_head)
                        finally:
                            if trainer.counters.steps:
                                _trained.add(network)
                        run = replace(_finish(trainer, data, trained.whole), folder=out)
                    except BaseException as error:
                        trainer.tell("on_failure", error)
                        raise
                    trainer.tell("on_finish", run.result)
                    return run
        finally:
            merge(network)  # of a run that was interrupted
            data.close()


_trained: WeakSet[nn.Module] = WeakSet()
BEGAN = "began.json"
"""In the folder of a run on a module of the user's: what stands for the weights that it began with."""
T = TypeVar("T")


def _open(
    opened: list[RunFolder], out: Path | None, config: dict[str, Any], ranks: Ranks
) -> tuple[dict[str, Any] | None, int | None]:
    """Open the run's folder: the result of a finished run, and the threads of one that was begun."""
    if out is None:
        return None, None
    folder = RunFolder(out, config, ranks.count)
    opened.append(folder)
    return folder.result() if folder.spent is None else None, folder.threads


def _read_finished(
    model: str | nn.Module | None, network: nn.Module, out: Path | None, finished: dict[str, Any]
) -> list[dict[str, Any]]:
    """Put a finished run's weights into its network; the records of its epochs."""
    assert out is not None
    if isinstance(model, nn.Module) and model not in _trained:
        _check_same(network, out, finished)
    load_trained(network, out, finished)
    return read_metrics(out)


def _hold(held: ExitStack, folder: RunFolder | None, first: str | None) -> None:
    """Keep other runs out of the folder; note in a new one what the weights were, if they are the user's own."""
    if folder is not None:
        held.enter_context(sole_user(folder.path))
        if first is not None and folder.checkpoints.newest() is None:
            write_json(folder.path / BEGAN, {"weights": first})


def _first_then_others(work: Callable[[], T], ranks: Ranks) -> T:
    """What each rank makes; the first one before the others, who find what it has kept on disk."""
    made: list[T] = []
    ranks.by_first(lambda: made.append(work()))
    return made[0] if made else work()


def _threads(given: int | None, begun: int | None, out: Path | None, alone_on_cpu: bool) -> int:
    """How many CPU threads a run works with: those it began with, which the last bits of its weights depend on."""
    if begun is not None and given not in (None, begun):
        warnings.warn(
            f"the run in {out} began with {begun} CPU threads and keeps them, for the same weights in the"
            f" end; threads={given} is not heeded",
            LessonplanWarning,
            stacklevel=3,
        )
    return begun or given or (own_threads() if alone_on_cpu else torch.get_num_threads())


def _check_new(network: nn.Module, folder: RunFolder | None) -> None:
    """What would be lost at the end, or passes for another beginning.

    Raises:
        ConfigError: the network's state has entries that cannot be stored.
    """
    begun = folder is not None and folder.checkpoints.newest() is not None
    if network in _trained and not begun:
        warnings.warn(
            "fit has trained this network object before, and goes on from there: for another independent run"
            " give a fresh one, or copy.deepcopy of it as it was",
            LessonplanWarning,
            stacklevel=3,
        )
    if folder is not None:
        odd = [name for name, value in network.state_dict().items() if not isinstance(value, Tensor)]
        if odd:
            raise ConfigError(
                f"the network's state_dict holds more than tensors ({', '.join(odd[:3])}), which"
                " weights.safetensors cannot: leave out out=..., or take it from get_extra_state"
            )


def _check_same(network: nn.Module, folder: Path, result: dict[str, Any]) -> None:
    """Say that a finished run of another beginning is given back.

    A module's weights are no part of a run's identity: it goes on from its checkpoint, whatever was drawn anew.
    """
    began = read_json(folder / BEGAN).get("weights") if (folder / BEGAN).exists() else None
    if began is not None and weights_digest(network) not in (began, result.get("weights")):
        warnings.warn(
            f"the run in {folder} began with other weights than this network has, and its result is given back:"
            " give another folder for a run from these",
            LessonplanWarning,
            stacklevel=3,
        )


def _finish(trainer: Trainer, shown: Data, whole: nn.Module | None = None) -> Run:
    """Judge the network on validation and test data, and write weights, predictions and result.

    Where a head was trained by itself, on features, it is what is judged, and the ``whole`` is what is kept;
    ``shown`` are the data themselves.
    """
    network, data, counters = trainer.state.evaluated_model.eval(), trainer.data, trainer.counters
    judge, shards = network, trainer.state.shards
    if shards is not None:
        trainer.state.optimizer.zero_grad()
        network = shards.give_back(network)
        judge = shards.judged()
    parameters = count_parameters(trainer.model if trainer.state.tuning.tune.lora is not None else network)
    trainer.state.merge_adapters()
    if network is not trainer.model and whole is not None:
        trainer.model.load_state_dict(network.state_dict())
    result: dict[str, Any] = {
        "status": "finished",
        "stopped": trainer.state.stop_reason or "budget",
        **counters.state_dict(),
        "epochs": counters.epochs,
        "param_norm": parameter_norm(network),
        "parameters": parameters,
        **({"batch_size": trainer.batch_size} if counters.steps else {}),
        **({"at": "features"} if whole is not None else {}),
        "class_names": list(data.class_names),
        "environment": environment(str(trainer.device)),
    }
    if trainer.evaluates_train:
        logits, labels = predict_view(
            judge,
            data.train.with_augment(None),
            channels_last=trainer.settings.channels_last,
            ranks=trainer.ranks,
        )
        result["train_set"] = classification_metrics(logits, labels)
    if trainer.supply.choices is not None:
        result["choices"] = trainer.supply.choices.result(data.train.labels, data.class_names)
    judged: Judged | None = None  # the test part, or without one the validation part
    for name, view in (("val", data.val), ("test", data.test)):
        if view is not None:
            logits, labels = predict_view(
                judge, view, channels_last=trainer.settings.channels_last, ranks=trainer.ranks
            )
            result[name] = detailed_metrics(logits, labels)
            judged = Judged(name, getattr(shown, name), logits, labels, data.class_names)
    kept = network if whole is None else whole.eval()
    result["weights"] = weights_digest(kept)
    if trainer.folder is not None:
        save_trained(kept, trainer.folder.path)
        if judged is not None:
            judged.write(trainer.folder.path)
        trainer.folder.finish(result)
    return Run(kept, result, trainer.history, trainer.folder.path if trainer.folder is not None else None)
