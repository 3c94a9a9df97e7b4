"""All samples: losses, accuracies, calibration."""

from __future__ import annotations

from typing import Any

from lessonplan.evaluate import detailed_metrics, parameter_norm
from lessonplan.evaluate.network import check_logits
from lessonplan.lab.evaluation.work import Work


def run(work: Work) -> dict[str, Any]:
    """All samples of the part that is judged: losses, accuracies, calibration.

    Raises:
        ConfigError, DataError: the network gives no logits, or too few for the classes.
    """
    subject, on = work.subject, work.options.on
    view = subject.view(on)
    work.steps.begin(f"classification on {on}", len(view))
    logits = work.predict()
    check_logits(logits, view.labels)
    found = detailed_metrics(logits, view.labels)
    norm = parameter_norm(subject.model)
    measures = {
        "top5_accuracy": found["top5"],
        "calibration_error": found["calibration_error"],
    }
    return {"samples": len(view), **found, "param_norm": norm, "measures": measures}
