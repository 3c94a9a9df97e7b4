"""Other data: how well confidence tells them from these."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lessonplan.evaluate import max_softmax, ood_report, predict_logits
from lessonplan.evaluation import Evaluation
from lessonplan.lab.evaluation.other_data import check_sets, other_sets
from lessonplan.lab.evaluation.subject import Subject
from lessonplan.lab.evaluation.work import BATCH, Work

_BINS = 20


def run(work: Work) -> dict[str, Any]:
    """The largest softmax probability, on samples like the training data and on others."""
    x, _ = work.judged()
    names = work.options.ood
    sets = other_sets(names, work.subject, work.options.limit, work.generator("ood"))
    work.steps.begin("other data", len(x) + sum(len(images) for images in sets.values()))

    def score(samples: Tensor) -> Tensor:
        return max_softmax(
            predict_logits(work.subject.model, samples, batch_size=BATCH, progress=work.steps.advance)
        )

    inside = score(x)
    outside = {name: score(images) for name, images in sets.items()}
    report = {name: asdict(metrics) for name, metrics in ood_report(inside, outside).items()}
    return {
        "samples": {"in": len(x), **{name: len(scores) for name, scores in outside.items()}},
        "report": report,
        "confidence": {name: _histogram(scores) for name, scores in {"in": inside, **outside}.items()},
        "measures": {f"ood_{key}": value for key, value in report["mean"].items()},
    }


def _histogram(scores: Tensor) -> list[float]:
    """Shares of scores in [0, 1] in equal bins."""
    shares: list[float] = (torch.histc(scores.float(), _BINS, 0.0, 1.0) / len(scores)).tolist()
    return shares


def check(subject: Subject, options: Evaluation) -> None:
    """The other data must be there.

    Raises:
        ConfigError, DataError: they are not.
    """
    check_sets(options.ood, subject.data, subject.preprocessing)
