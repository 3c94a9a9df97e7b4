"""The parts of an evaluation that attack nothing: classification, label noise, test-time sums, other data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lessonplan.errors import ConfigError, DataError
from lessonplan.evaluate import (
    MixupInference,
    RandomisedDefence,
    TestTimeSum,
    accuracy_by_copies,
    accuracy_by_weight,
    between_samples,
    detailed_metrics,
    max_softmax,
    ood_report,
    parameter_norm,
    predict_logits,
    reliability,
)
from lessonplan.evaluate.network import check_logits
from lessonplan.lab.evaluation.options import Evaluation
from lessonplan.lab.evaluation.other_data import check_sets, other_sets
from lessonplan.lab.evaluation.progress import Steps
from lessonplan.lab.evaluation.subject import Subject
from lessonplan.seeds import fold_seed

BATCH = 256
_WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0)
_BINS = 20


@dataclass
class Work:
    """What every part works on.

    Attributes:
        subject: the network and its data.
        options: what was asked for.
        steps: hears how far it is.
    """

    subject: Subject
    options: Evaluation
    steps: Steps

    def generator(self, *purpose: str) -> torch.Generator:
        """A generator of its own for each purpose."""
        return torch.Generator().manual_seed(fold_seed(self.options.seed, "evaluation", *purpose))

    def judged(self, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """Samples and labels of the part that is judged, at most ``limit`` (None: the options')."""
        view = self.subject.view(self.options.on)
        rows = self.subject.rows(view, limit or self.options.limit, self.options.seed)
        return self.subject.samples(view, rows), view.labels[rows]

    def training(self, limit: int) -> tuple[Tensor, Tensor]:
        """Training samples without augmentation, and their true labels."""
        view = self.subject.data.train
        rows = self.subject.rows(view, limit, self.options.seed)
        return self.subject.samples(view, rows), view.clean_labels[rows]

    def defences(self, purpose: str) -> dict[str, RandomisedDefence]:
        """The test-time sums that were asked for, and Mixup Inference where it was."""
        wanted = self.options.ttsa
        if wanted is None:
            return {}
        pool, labels = (t.to(self.subject.device) for t in self.training(self.options.pool))
        found: dict[str, RandomisedDefence] = {
            "ttsa": TestTimeSum(
                self.subject.model,
                pool,
                wanted.k,
                wanted.copies,
                wanted.weight,
                of=wanted.of,
                generator=self.generator(purpose, "ttsa"),
            )
        }
        if self.options.mixup_inference:
            for variant in ("predicted", "other"):
                found[f"mi_{variant}"] = MixupInference(
                    self.subject.model,
                    pool,
                    labels,
                    "other" if variant == "other" else "predicted",
                    copies=wanted.copies,
                    generator=self.generator(purpose, variant),
                )
        return found


Part = Callable[[Work], dict[str, Any]]
"""Does its part; what it returns is stored as it is, and its ``"measures"`` stand in tables."""


def classification(work: Work) -> dict[str, Any]:
    """All samples of the part that is judged: losses, accuracies, calibration.

    Raises:
        ConfigError, DataError: the network gives no logits, or too few for the classes.
    """
    subject, on = work.subject, work.options.on
    view = subject.view(on)
    work.steps.begin(f"classification on {on}", len(view))
    logits = _predict_view(work)
    check_logits(logits, view.labels)
    found = detailed_metrics(logits, view.labels)
    bins = reliability(logits.double().softmax(1), view.labels)
    norm = parameter_norm(subject.model)
    measures = {
        "top5_accuracy": found["top5"],
        "calibration_error": found["calibration_error"],
    }
    return {"samples": len(view), **found, "reliability": asdict(bins), "param_norm": norm, "measures": measures}


def label_noise(work: Work) -> dict[str, Any]:
    """What a network made of corrupted labels (the lecture's table): errors on both parts of its training set.

    The error on the corrupted part is against the labels that were taught, so that a small one is memory.
    Best and last error are those of the validations during training; their labels are true.
    """
    train = work.subject.data.train.with_augment(None)
    work.steps.begin("training samples", len(train))
    wrong = (_predict_view(work, "train").argmax(1) != train.labels).double()
    errors = [1 - line["val"]["accuracy"] for line in work.subject.history if isinstance(line.get("val"), dict)]
    parts = {"real": wrong[~train.corrupted], "corrupted": wrong[train.corrupted]}
    measures = {f"train_error_{name}": part.mean().item() for name, part in parts.items() if len(part)}
    if errors:
        measures |= {"val_error_best": min(errors), "val_error_last": errors[-1]}
    return {"corrupted": int(train.corrupted.sum()), "samples": len(train), "measures": measures}


def test_time(work: Work) -> dict[str, Any]:
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


def out_of_distribution(work: Work) -> dict[str, Any]:
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


def between(work: Work) -> dict[str, Any]:
    """Errors and input gradients between training samples (the lecture's two figures on mixup)."""
    x, y = work.training(max(2, work.options.limit))
    pairs = min(1000, len(x))
    lams = [i / 10 for i in range(11)]
    work.steps.begin("between samples", pairs * len(lams))
    found = between_samples(
        work.subject.model,
        x,
        y,
        lams,
        pairs=pairs,
        generator=work.generator("between"),
        progress=work.steps.advance,
    )
    middle = found[5]
    return {
        "pairs": pairs,
        "curve": [asdict(point) for point in found],
        "measures": {"between_miss": middle.miss, "between_gradient_norm": middle.gradient_norm},
    }


def _predict_view(work: Work, on: str | None = None) -> Tensor:
    """Logits of a whole part, read batch by batch: it need not fit into memory."""
    subject = work.subject
    view = subject.view(on or work.options.on)
    parts = []
    for rows in torch.arange(len(view)).split(BATCH):
        parts.append(predict_logits(subject.model, subject.samples(view, rows), batch_size=BATCH))
        work.steps.advance(len(rows))
    return torch.cat(parts)


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


def _histogram(scores: Tensor) -> list[float]:
    """Shares of scores in [0, 1] in equal bins."""
    shares: list[float] = (torch.histc(scores.float(), _BINS, 0.0, 1.0) / len(scores)).tolist()
    return shares


def check_subject(subject: Subject, options: Evaluation) -> None:
    """Find what cannot be evaluated before anything is.

    Raises:
        ConfigError, DataError: images are needed and there are none, or too few samples.
    """
    subject.view(options.on)
    if not subject.is_image:
        asked = [name for name in ("attacks", "localise") if getattr(options, name)]
        if asked:
            raise ConfigError(
                f"{' and '.join(asked)} need images in [0, 1], and the samples are features: leave it out"
            )
    check_sets(options.ood, subject)
    if options.ttsa is not None and len(subject.data.train) < options.ttsa.k:
        raise DataError(
            f"test-time sums of k={options.ttsa.k} need a pool of at least {options.ttsa.k} samples, and there"
            f" are {len(subject.data.train)}: give a smaller k"
        )
