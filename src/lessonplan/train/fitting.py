"""``fit``: train a network by a plan, within a budget, in a folder that can be resumed."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakSet

import safetensors.torch
import torch
from torch import Tensor, nn

from lessonplan.data import Data
from lessonplan.data import load as load_data
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.evaluate.classification import classification_metrics, detailed_metrics, parameter_norm
from lessonplan.files import write_atomically
from lessonplan.mix import Mix
from lessonplan.models import build_model, count_parameters
from lessonplan.network.accelerator import device_of, is_accelerator, resolve_device, same_device
from lessonplan.network.network import LossFunction
from lessonplan.plan import Plan
from lessonplan.seeds import fold_seed
from lessonplan.settings import Settings
from lessonplan.train.budget import Budget
from lessonplan.train.callbacks import Callback
from lessonplan.train.holdout import give_holdouts
from lessonplan.train.identity import run_config
from lessonplan.train.judged import Judged
from lessonplan.train.lock import sole_user
from lessonplan.train.metrics import predict_view
from lessonplan.train.optimizer import OptimizerFactory
from lessonplan.train.origin import Origin, origin_of
from lessonplan.train.progress import ProgressLine
from lessonplan.train.run_folder import RunFolder, read_metrics
from lessonplan.train.selection_note import SelectionNote
from lessonplan.train.trainer import Trainer
from lessonplan.train.usage import environment


@dataclass
class Run:
    """A finished run.

    Attributes:
        model: the trained network, in evaluation mode.
        result: final metrics, counters and seconds; ``result["test"]["accuracy"]`` in [0, 1].
        history: a record an epoch, as in ``metrics.jsonl``.
        folder: where it lies, or None.
    """

    model: nn.Module
    result: dict[str, Any]
    history: list[dict[str, Any]] = field(repr=False)
    folder: Path | None = None


def fit(
    model: str | nn.Module = "tiny",
    data: str | Data = "digits",
    plan: Plan | str | None = None,
    budget: str | Budget = "20ep",
    *,
    seed: int = 0,
    out: str | Path | None = None,
    loss: str | LossFunction = "ce",
    optimizer: str | OptimizerFactory = "sgd",
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Run:
    """Train a network; called again with the same arguments and folder, it resumes or returns the result.

    With a longer budget of the same unit a finished run goes on: learning rate and whatever else follows the
    share of the budget are from there on those of the longer run.

    Args:
        model: a name (``lessonplan.models.model_names()``) or any module from images to logits ``(N, C)``, which
            is
            trained in place. Parts whose parameters need no gradient keep their running statistics.
        data: a source's name, or what ``lessonplan.data.load`` returned.
        plan: what happens to samples on their way into the network; None or an empty plan is plain SGD. Its
            mix is given back as it was.
        budget: ``"20ep"``, ``"4000 steps"``, ``"400k samples"``, ``"10min"``, ``"1.2M cost"``.
        seed: of the network's weights (for a name), the order of samples and the mixes.
        out: folder of the run; without one nothing is written and nothing can be resumed.
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
    own_loss, own_optimizer = _unless_text(loss), _unless_text(optimizer)
    if own_loss is None:
        settings["loss"] = loss
    if own_optimizer is None:
        settings["optimizer"] = optimizer
    chosen = Settings.make(**settings)
    plan = Plan.parse(plan) if isinstance(plan, str) else plan or Plan()
    # A mix is given back as it was (it may be attached to other things); the others are copied.
    plan = Plan(copy.deepcopy(plan.select), copy.deepcopy(plan.order), plan.mix)
    budget = Budget.parse(budget)
    device = _place(chosen.device, model, data)
    origin = origin_of(model, chosen.weights) if chosen.weights is not None else None
    if isinstance(data, str):
        data = load_data(data, seed=seed, device=device, input=origin.needs if origin is not None else None)
    else:
        data = data.on(device) if origin is None else data.on(device).as_asked(origin.needs)
    model = model if origin is None else origin.plain
    config = run_config(
        model,
        data,
        plan,
        budget,
        chosen,
        seed,
        loss=own_loss,
        optimizer=own_optimizer,
        weights=origin.identity if origin is not None else None,
    )
    folder = RunFolder(Path(out), config) if out is not None else None
    finished = folder.result() if folder is not None and folder.spent is None else None
    if folder is not None and folder.spent is not None:
        share = Budget.parse(folder.spent).amount / budget.amount
        warnings.warn(
            f"the run in {folder.path} had spent its budget of {folder.spent} and goes on to {budget}: the"
            f" schedule {chosen.schedule}, and all that follows the share of the budget, goes on from"
            f" {100 * share:.0f}% of the longer one",
            LessonplanWarning,
            stacklevel=2,
        )
    if folder is not None and finished is not None:
        network = _network(model, data, seed)
        _load_weights(network, folder.path)
        network.to(device)
        return Run(network.eval(), finished, read_metrics(folder.path), folder.path)
    network = _network(model, data, seed) if origin is None else _begun(origin, data, seed, chosen.head)
    _check_new(network, folder)
    give_holdouts(plan, data)
    threads = torch.get_num_threads()
    torch.set_num_threads(chosen.threads or threads)
    try:
        with _lent(plan):
            trainer = Trainer(
                network,
                data,
                plan,
                budget,
                chosen,
                seed=seed,
                folder=folder,
                loss=own_loss,
                optimizer=own_optimizer,
                callbacks=[*callbacks, ProgressLine(), SelectionNote()],
            )
            with sole_user(folder.path) if folder is not None else nullcontext():
                try:
                    trainer.train()
                finally:
                    if trainer.counters.steps:
                        _trained.add(network)
                return _finish(trainer)
    finally:
        torch.set_num_threads(threads)
        data.close()


_trained: WeakSet[nn.Module] = WeakSet()


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


@contextmanager
def _lent(plan: Plan) -> Iterator[None]:
    """Give a plan back as it was, so that it can be used again: stages at their start, classes unset."""
    mixes = list(_with_children(plan.mix)) if plan.mix is not None else []
    before = [(mix, mix.num_classes, mix.state_dict()) for mix in mixes]
    try:
        yield
    finally:
        for mix, num_classes, state in before:
            mix.num_classes = num_classes
            mix.load_state_dict(state)


def _with_children(mix: Mix) -> Iterator[Mix]:
    yield mix
    for child in mix.children():
        yield from _with_children(child)


def _place(setting: str, model: str | nn.Module, data: str | Data) -> torch.device:
    """Where a run works: where the setting says, else where the network is, or where its data were put.

    Data that were loaded without a device follow.

    Raises:
        ConfigError: the data were put somewhere else.
    """
    put = data.train.device if isinstance(data, Data) and data.placed else None
    if setting == "auto":
        given = device_of(model) if isinstance(model, nn.Module) else None
        if given is not None and is_accelerator(given):
            return given
        return put if put is not None else resolve_device("auto")
    device = resolve_device(setting)
    if put is not None and not same_device(put, device):
        raise ConfigError(f"the data are on {put} and the setting device is {setting!r}: load them there")
    return device


def _network(model: str | nn.Module, data: Data, seed: int) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    return build_model(model, shape=data.shape, num_classes=data.num_classes, seed=fold_seed(seed, "weights"))


def _begun(origin: Origin, data: Data, seed: int, head: str | None) -> nn.Module:
    """A network with weights from elsewhere; what became of them is said."""
    drawn = fold_seed(seed, "weights")
    network, match = origin.network(shape=data.shape, num_classes=data.num_classes, seed=drawn, head=head)
    print(f"lessonplan: weights of {origin.where}: {match or 'loaded, with a new head'}", file=sys.stderr)
    return network


def _unless_text(given: Any) -> Any:
    """A function that the user gave, or None for the name of one of ours."""
    return None if isinstance(given, str) else given


def _load_weights(network: nn.Module, folder: Path) -> None:
    weights = folder / "weights.safetensors"
    if not weights.exists():
        raise ConfigError(f"{weights} is missing beside a finished result: give another folder to train again")
    network.load_state_dict(safetensors.torch.load_file(weights))


def _finish(trainer: Trainer) -> Run:
    """Judge the network on validation and test data, and write weights, predictions and result."""
    network, data, counters = trainer.state.evaluated_model.eval(), trainer.data, trainer.counters
    result: dict[str, Any] = {
        "status": "finished",
        "stopped": trainer.state.stop_reason or "budget",
        **counters.state_dict(),
        "epochs": counters.epochs,
        "param_norm": parameter_norm(network),
        "parameters": count_parameters(network),
        "class_names": list(data.class_names),
        "environment": environment(str(trainer.device)),
    }
    if trainer.evaluates_train:
        logits, labels = predict_view(
            network, data.train.with_augment(None), channels_last=trainer.settings.channels_last
        )
        result["train_set"] = classification_metrics(logits, labels)
    judged: Judged | None = None  # the test part, or without one the validation part
    for name, view in (("val", data.val), ("test", data.test)):
        if view is not None:
            logits, labels = predict_view(network, view, channels_last=trainer.settings.channels_last)
            result[name] = detailed_metrics(logits, labels)
            judged = Judged(name, view, logits, labels, data.class_names)
    if trainer.folder is not None:
        # Copies, because the format refuses weights that share memory.
        state = {name: tensor.cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
        write_atomically(trainer.folder.path / "weights.safetensors", safetensors.torch.save(state))
        if judged is not None:
            judged.write(trainer.folder.path)
        trainer.folder.finish(result)
    return Run(network, result, trainer.history, trainer.folder.path if trainer.folder is not None else None)
