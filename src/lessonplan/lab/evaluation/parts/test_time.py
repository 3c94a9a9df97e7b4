"""Test-time sums, and Mixup Inference beside them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lessonplan.errors import DataError
from lessonplan.evaluate import (
    RandomisedDefence,
    TestTimeSum,
    accuracy_by_copies,
    accuracy_by_weight,
    predict_logits,
)
from lessonplan.evaluation import Evaluation
from lessonplan.lab.evaluation.progress import Steps
from lessonplan.lab.evaluation.subject import Subject
from lessonplan.lab.evaluation.work import BATCH, Work

_WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0)


def run(work: Work) -> dict[str, Any]:
    """Accuracy of test-time sums (and Mixup Inference) by copies, and of the sums by the sample's weight."""
    assert work.options.ttsa is not None
    copies = work.options.ttsa.copies
    wanted = sorted({2**i for i in range(copies.bit_length()) if 2**i <= copies} | {copies})
    x, y = work.judged()
    few = min(len(x), work.options.curve_limit)
    work.steps.begin("plain predictions", len(x))
    plain = predict_logits(work.subject.model, x, batch_size=BATCH, progress=work.steps.advance)
    right = (plain.argmax(1) == y).double()
    by_copies, by_weight = {}, []
    for name, defence in work.defences("test time").items():
        work.steps.begin(f"{name}, {copies} copies", len(x) * copies)
        curve = _by_copies(defence, x, y, wanted, work.steps)
        by_copies[name] = [[c, curve[c]] for c in wanted]
        if isinstance(defence, TestTimeSum):
            work.steps.begin("weights lambda", few * copies * len(_WEIGHTS))
            curves = accuracy_by_weight(
                defence, x[:few].to(work.subject.device), y[:few], _WEIGHTS, progress=work.steps.advance
            )
            by_weight = [[weight, value] for weight, value in curves.items()]
    clean = right.mean().item()
    measures = {"clean_accuracy": clean, **{f"{name}_accuracy": c[-1][1] for name, c in by_copies.items()}}
    return {
        **work.options.ttsa.model_dump(),
        "samples": len(x),
        "weight_samples": few,
        "weight_clean_accuracy": right[:few].mean().item(),
        "by_copies": by_copies,
        "by_weight": by_weight,
        "measures": measures,
    }


def _by_copies(
    defence: RandomisedDefence, x: Tensor, y: Tensor, wanted: list[int], steps: Steps
) -> dict[int, float]:
    """``accuracy_by_copies``, some samples at a time: memory does not grow with their number."""
    right = dict.fromkeys(wanted, 0.0)
    for rows in torch.arange(len(x)).split(defence.chunk):
        part = x[rows].to(defence.pool.device)
        for copies, value in accuracy_by_copies(defence, part, y[rows], wanted, progress=steps.advance).items():
            right[copies] += value * len(rows)
    return {copies: value / len(x) for copies, value in right.items()}


def check(subject: Subject, options: Evaluation) -> None:
    """The pool must hold a sum.

    Raises:
        DataError: it is too small.
    """
    assert options.ttsa is not None
    k, there = options.ttsa.k, len(subject.data.train)
    if there < k:
        raise DataError(
            f"test-time sums of k={k} need a pool of at least {k} samples, and there are {there}: give a smaller k"
        )
