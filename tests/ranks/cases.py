"""Runs of a hundred updates that one process and two ranks make, and what is noted of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lessonplan as lp
from lessonplan.data import Data
from lessonplan.train.callbacks import Callback
from lessonplan.train.joining import present_ranks
from lessonplan.train.trainer import Trainer

STEPS = 100
PLANS: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd batches": {"batch_size": 7},
    "adamw, clipped and averaged": {"optimizer": "adamw", "clip": 1.0, "ema": 0.9, "label_smoothing": 0.1},
    "batch normalisation": {"batch_norm": "sync", "norm": True, "plan": "cutmix"},
    "mixup": {"plan": "mixup"},
    "sums": {"plan": "sum:k=4"},
    "weighted and cut": {"plan": "select:weighted:0.5,importance=true + cutmix", "image": True},
    "cascade by plateaus": {"plan": "cascade:k=4,patience=2", "evaluate_every": 1},
    "gradual": {"plan": "gradual:k=4"},
    "stagnation": {"plan": "gradual:k=3", "schedule": "stagnation"},
    "filtered": {"plan": "select:accuracy:margin=0.2 >> topk:0.5"},
    "filtered, mixed": {"plan": "select:accuracy:margin=0.3 + mixup"},
    "single passes": {"plan": "select:accuracy:margin=0.9"},
    "before an epoch": {"plan": "select:topk:0.5 >> epochwise"},
    "by history": {"plan": "select:infobatch >> epochwise"},
    "multi-attempt": {"plan": "order:multi-attempt:k=3"},
    "samples in order": {"plan": "order:multi-attempt:k=3,items=samples,order=descending,pool=3"},
    "look-ahead": {"plan": "order:loss-delta:candidates=3,on=external,external=40"},
    "look-ahead, its own loss": {"plan": "order:loss-delta:candidates=3,pool=4,winners=2"},
    "look-ahead, cheap": {"plan": "order:loss-delta:candidates=3,on=external,external=40,method=last-layers"},
    "look-ahead, kept": {"plan": "order:loss-delta:candidates=3,on=external,external=40,method=kept-gradients"},
    "puzzle": {"plan": "puzzle:blocks=2", "image": True},
    "all three": {"plan": "select:accuracy:margin=0.3 + order:multi-attempt:k=2 + mixup"},
}
"""What is shared out: every kind of choice, of mix and of measure."""


def data() -> Data:
    """480 pictures of digits, 96 of them to validate on, and 200 to test on."""
    return lp.data.load("digits", per_class=48, val_fraction=0.2, seed=3, augment="crop:1", test_fraction=0.2)


def network(image: bool = False, norm: bool = False) -> nn.Module:
    """A small network, the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        if norm:
            layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 24)]
            return nn.Sequential(*layers, nn.BatchNorm1d(24, momentum=None), nn.ReLU(), nn.Linear(24, 10))
        if image:
            return nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10)
            )
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))


class Notes(Callback):
    """What each update saw: the sum of this rank's losses and their number, and the samples of all ranks."""

    def __init__(self) -> None:
        self.losses: list[tuple[float, int]] = []
        self.samples: list[list[int]] = []
        self.counted: list[tuple[int, int, float]] = []

    def on_train_start(self, trainer: Trainer) -> None:
        """Listen to what is said of each batch."""
        observe = trainer.supply.observe

        def noted(batch: Any, step: Any) -> None:
            self.samples.append(batch.indices.tolist())
            observe(batch, step)

        trainer.supply.observe = noted  # type: ignore[method-assign]

    def on_batch_end(self, trainer: Trainer) -> None:
        """Take the losses of this batch, which were gathered last."""
        last = trainer.state.meter._losses[-1]
        self.losses.append((last.sum().item(), len(last)))
        self.counted.append((trainer.counters.samples, trainer.counters.cost, trainer.counters.epochs))


def train(name: str, out: Path | None = None, **more: Any) -> dict[str, Any]:
    """Make the run of this name; what is noted of it as tensors and primitives."""
    given = {"batch_size": 16, "lr": 0.1, "weight_decay": 0.0, "budget": f"{STEPS} steps", **PLANS[name], **more}
    notes = Notes()
    run = lp.fit(
        network(given.pop("image", False), given.pop("norm", False)),
        data(),
        given.pop("plan", None),
        given.pop("budget"),
        seed=5,
        out=out,
        callbacks=[notes],
        **given,
    )
    unlike = {"system", "environment", "weights", "seconds"}
    return {
        "losses": notes.losses,
        "samples": notes.samples,
        "counted": notes.counted,
        "weights": dict(run.model.state_dict()),
        "history": [{key: value for key, value in record.items() if key not in unlike} for record in run.history],
        "result": {key: value for key, value in run.result.items() if key not in unlike},
        "digest": run.result["weights"],
    }


def train_all(names: list[str]) -> dict[str, dict[str, Any]]:
    """Make the runs of these names, one after another."""
    return {name: train(name) for name in names}


DROPPING = {"plan": "mixup", "mix_over": "rank", "budget": "40 steps", "evaluate_every": 1}


def with_dropout() -> nn.Module:
    """A network that draws random numbers in its forward pass, and normalises batches."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        layers = [
            nn.Flatten(),
            nn.Linear(64, 24),
            nn.BatchNorm1d(24),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(24, 10),
        ]
        return nn.Sequential(*layers)


class StopAt(Callback):
    """Ends a run in the middle, as a kill would: between two checkpoints."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, trainer: Trainer) -> None:
        """Raise what nobody catches."""
        if trainer.counters.steps == self.step:
            raise KeyError("stopped")


def resumed(out: str, stop: int | None, **given: Any) -> tuple[str, Any] | None:
    """A run with dropout, batch normalisation and mixes of each rank's own, that is stopped, or goes on.

    Returns:
        digest of the weights and the result; None where it was stopped.
    """
    options = {"batch_size": 16, "checkpoint_every": "7 steps", **DROPPING, **given}
    callbacks = [StopAt(stop)] if stop is not None else []
    try:
        run = lp.fit(
            with_dropout(),
            data(),
            options.pop("plan"),
            options.pop("budget"),
            out=out,
            callbacks=callbacks,
            **options,
        )
    except KeyError:
        return None
    history = [{key: value for key, value in record.items() if key != "system"} for record in run.history]
    return run.result["weights"], history


def one_after_the_other() -> None:
    """Each rank finds a fault, the first one when it has heard of the other's end."""
    with present_ranks() as ranks:
        if ranks.rank == 0:
            time.sleep(2.5)
        raise lp.errors.ConfigError(f"found by rank {ranks.rank}")


def misfit(what: str, out: str) -> None:
    """Start what cannot go well."""
    rank = torch.distributed.get_rank()
    given: dict[str, Any] = {"data": data(), "plan": None, "budget": "3 steps", "batch_size": 16}
    if what == "seed":
        given["seed"] = rank
    elif what == "data":
        given["data"] = lp.data.load("digits", per_class=48, val_fraction=0.2, seed=3 + rank)
    elif what == "code":
        from lessonplan.train import joining

        digest = joining.code_digest()
        joining.code_digest = lambda: digest if rank == 0 else "another"  # type: ignore[assignment]
    elif what == "small":
        given["batch_size"] = 1
    elif what == "hidden":
        given["plan"] = "mixup >> cutout"
        given |= {"model": "tiny", "plan": "manifold"}
    elif what == "solved":
        given["fit_head"], given["tune"], given["model"] = "ncm", "head", "tiny"
    elif what == "scalar":
        given["loss"] = torch.nn.functional.cross_entropy
    elif what == "parts":
        given |= {"plan": "sum:k=12", "mix_over": "rank"}
    elif what == "nan":
        # One rank's part of the batch is broken, the others' are not.
        given |= {"loss": _broken_on_one, "out": out}
    elif what == "folder":
        given |= {"out": out}
    lp.fit(given.pop("model", None) or with_dropout(), **given)


def _broken_on_one(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return losses * float("nan") if torch.distributed.get_rank() == 1 and logits.requires_grad else losses


def idle_and_few(**given: Any) -> dict[str, Any]:
    """A network with a layer that its output does not use, and batches of fewer samples than ranks."""

    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = network(), nn.Linear(3, 3)
            nn.init.ones_(self.idle.weight)
            nn.init.ones_(self.idle.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.used(x)
            return logits

    small = lp.data.load("digits", per_class=2, seed=3)  # 20 samples: 3, 3, 3, 3, 3, 3, 2
    run = lp.fit(Idle(), small, None, "14 steps", batch_size=3, seed=5, lr=0.1, **given)
    return {"weights": dict(run.model.state_dict()), "result": {"counts": run.result["samples"]}}


def reduced(precision: str) -> dict[str, torch.Tensor]:
    """The weights behind a few updates with gradients that travel in a number format."""
    run = lp.fit(network(), data(), None, "5 steps", batch_size=16, seed=5, lr=0.1, grad_reduce=precision)
    return dict(run.model.state_dict())


def streamed(spec: str, apart: bool) -> dict[str, Any]:
    """Pictures that are read from their files by workers, mixed together or each rank's by themselves.

    Returns:
        the weights, the losses that this rank saw, and how many pictures it has read for training.
    """
    pictures = lp.data.load(spec, memory_limit=0, val_fraction=0.2, seed=3, workers=1, image_size=8)
    assert pictures.train.reads_ahead
    read: list[int] = []
    batches = pictures.train.batches

    def counted(index_batches: Any, epoch: int = 0) -> Any:
        def noted() -> Any:
            for indices in index_batches:
                read.append(len(indices))
                yield indices

        return batches(noted(), epoch)

    pictures.train.batches = counted  # type: ignore[method-assign]
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net.apply(lambda m: m.reset_parameters() if isinstance(m, nn.Linear) else None)
    run = lp.fit(
        net, pictures, "mixup", "2ep", batch_size=8, seed=5, lr=0.01, mix_over="rank" if apart else "global"
    )
    return {"weights": dict(run.model.state_dict()), "read": sum(read), "train": len(pictures.train)}
