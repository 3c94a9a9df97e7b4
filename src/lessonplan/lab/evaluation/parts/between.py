"""Errors and input gradients between training samples."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lessonplan.evaluate import between_samples
from lessonplan.lab.evaluation.work import Work


def run(work: Work) -> dict[str, Any]:
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
