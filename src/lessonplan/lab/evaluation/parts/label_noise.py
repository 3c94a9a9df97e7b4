"""What a network made of corrupted labels."""

from __future__ import annotations

from typing import Any

from lessonplan.lab.evaluation.work import Work


def run(work: Work) -> dict[str, Any]:
    """What a network made of corrupted labels (the lecture's table): errors on both parts of its training set.

    The error on the corrupted part is against the labels that were taught, so that a small one is memory.
    Best and last error are those of the validations during training; their labels are true.
    """
    train = work.subject.data.train.with_augment(None)
    work.steps.begin("training samples", len(train))
    wrong = (work.predict("train").argmax(1) != train.labels).double()
    errors = [1 - line["val"]["accuracy"] for line in work.subject.history if isinstance(line.get("val"), dict)]
    parts = {"real": wrong[~train.corrupted], "corrupted": wrong[train.corrupted]}
    measures = {f"train_error_{name}": part.mean().item() for name, part in parts.items() if len(part)}
    if errors:
        measures |= {"val_error_best": min(errors), "val_error_last": errors[-1]}
    return {"corrupted": int(train.corrupted.sum()), "samples": len(train), "measures": measures}
