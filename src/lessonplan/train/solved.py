"""Heads that are found without training, kept and judged as if they had been trained."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from lessonplan.data import View
from lessonplan.evaluate.classification import classification_metrics, parameter_norm
from lessonplan.pretrained.closed_form import logistic_regression, nearest_class_mean, put_into
from lessonplan.train.trainer import Trainer


def solve_head(trainer: Trainer, kind: str) -> None:
    """Set the trainer's network, a linear head on features, without a single update.

    Args:
        trainer: of a run on features; its counters have what these cost.
        kind: "logreg" or "ncm".

    Raises:
        ConfigError: the training samples are of one class.
    """
    data = trainer.data
    if trainer.folder is not None:
        trainer.folder.claim(torch.get_num_threads())
        trainer.folder.rewind_metrics(0)
    started = time.perf_counter()
    views = [_all(data.train, epoch) for epoch in range(trainer.settings.feature_views)]
    x, y = torch.cat([x for x, _ in views]), torch.cat([y for _, y in views])
    found: dict[str, Any] = {"fit": kind}
    if kind == "ncm":
        weight, bias = nearest_class_mean(x, y, data.num_classes)
    else:
        val = None if data.val is None else _all(data.val, 0)
        weight, bias, found["C"] = logistic_regression(x, y, data.num_classes, val, trainer.seed)
    for head in (trainer.model, trainer.state.evaluated_model):  # an average of weights has nothing to average
        put_into(head, weight.to(trainer.device), bias.to(trainer.device))
    trainer.model.eval()
    trainer.counters.seconds = time.perf_counter() - started
    record: dict[str, Any] = {
        "epoch": 0,
        "step": 0,
        **{name: getattr(trainer.counters, name) for name in ("samples", "raw_samples", "cost", "forwarded")},
        "backpropagated": 0,
        "lr": 0.0,
        "train": _judged(trainer, data.train),
        "param_norm": parameter_norm(trainer.model),
        "head": found,
    }
    if data.val is not None:
        record["val"] = _judged(trainer, data.val)
    if trainer.settings.evaluate_test == "curve" and data.test is not None:
        record["test"] = _judged(trainer, data.test)
    record["system"] = {"seconds": trainer.counters.seconds, "samples_per_second": 0.0}
    trainer.history.append(record)
    trainer.state.stop_reason = f"{kind}: nothing to train"
    if trainer.folder is not None:
        trainer.folder.append_metrics(record)


def _all(view: View, epoch: int) -> tuple[Tensor, Tensor]:
    x, y = view.fetch(torch.arange(len(view)), epoch)
    return x.cpu(), y.cpu()


@torch.no_grad()
def _judged(trainer: Trainer, view: View) -> dict[str, float]:
    x, y = _all(view.with_augment(None), 0)
    return classification_metrics(trainer.model(x.to(trainer.device)).cpu(), y)
