"""``fit``: train a network by a plan, within a budget, in a folder that can be resumed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakSet

import safetensors.torch
import torch
from torch import Tensor, nn

from lessonplan.data import Data
from lessonplan.errors import ConfigError, LessonplanWarning
from lessonplan.evaluate.classification import classification_metrics, detailed_metrics, parameter_norm
from lessonplan.files import write_atomically
from lessonplan.lock import sole_user
from lessonplan.models import count_parameters
from lessonplan.network.network import LossFunction
from lessonplan.plan import Plan
from lessonplan.pretrained.lora import merge
from lessonplan.train.beginning import begin, lent
from lessonplan.train.budget import Budget
from lessonplan.train.callbacks import Callback
from lessonplan.train.frozen import trainee
from lessonplan.train.holdout import give_holdouts
from lessonplan.train.judged import Judged
from lessonplan.train.metrics import predict_view
from lessonplan.train.optimizer import OptimizerFactory
from lessonplan.train.progress import ProgressLine
from lessonplan.train.run_folder import RunFolder, read_metrics
from lessonplan.train.selection_note import SelectionNote
from lessonplan.train.solved import solve_head
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
    optimizer: str | OptimizerFactory = "auto",
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
    budget = Budget.parse(budget)
    begun = begin(model, data, plan, seed=seed, loss=loss, optimizer=optimizer, settings=settings)
    chosen, plan, data = begun.settings, begun.plan, begun.data
    config = begun.config(budget)
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
        network = begun.plain_network()
        _load_weights(network, folder.path)
        network.to(begun.device)
        return Run(network.eval(), finished, read_metrics(folder.path), folder.path)
    network = begun.network()
    _check_new(network, folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(chosen.threads or threads)
    try:
        trained = trainee(network, data, plan, chosen)
        give_holdouts(plan, data)
        with lent(plan):
            trainer = Trainer(
                trained.network,
                trained.data,
                plan,
                budget,
                trained.settings,
                seed=seed,
                folder=folder,
                loss=begun.loss,
                optimizer=begun.optimizer,
                callbacks=[*callbacks, ProgressLine(), SelectionNote()],
                priced=trained.priced,
            )
            trainer.counters.passed(trained.spent)
            with sole_user(folder.path) if folder is not None else nullcontext():
                try:
                    if chosen.fit_head == "train":
                        trainer.train()
                    else:
                        solve_head(trainer, chosen.fit_head)
                finally:
                    if trainer.counters.steps:
                        _trained.add(network)
                return _finish(trainer, data, trained.whole)
    finally:
        merge(network)  # of a run that was interrupted
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


def _load_weights(network: nn.Module, folder: Path) -> None:
    weights = folder / "weights.safetensors"
    if not weights.exists():
        raise ConfigError(f"{weights} is missing beside a finished result: give another folder to train again")
    network.load_state_dict(safetensors.torch.load_file(weights))


def _finish(trainer: Trainer, shown: Data, whole: nn.Module | None = None) -> Run:
    """Judge the network on validation and test data, and write weights, predictions and result.

    Where a head was trained by itself, on features, it is what is judged, and the ``whole`` is what is kept;
    ``shown`` are the data themselves.
    """
    network, data, counters = trainer.state.evaluated_model.eval(), trainer.data, trainer.counters
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
        **({"at": "features"} if whole is not None else {}),
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
            judged = Judged(name, getattr(shown, name), logits, labels, data.class_names)
    kept = network if whole is None else whole.eval()
    if trainer.folder is not None:
        # Copies, because the format refuses weights that share memory.
        state = {name: tensor.cpu().contiguous().clone() for name, tensor in kept.state_dict().items()}
        write_atomically(trainer.folder.path / "weights.safetensors", safetensors.torch.save(state))
        if judged is not None:
            judged.write(trainer.folder.path)
        trainer.folder.finish(result)
    return Run(kept, result, trainer.history, trainer.folder.path if trainer.folder is not None else None)
