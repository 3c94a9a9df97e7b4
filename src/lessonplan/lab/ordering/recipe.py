"""The thesis' experiment at four scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lessonplan.errors import ConfigError, DataError
from lessonplan.lab.ordering.search import search_orderings
from lessonplan.lab.recipe import Scale

_FULL: dict[str, Any] = {"classes": ("0", "1"), "per_class": 24, "evaluate": 2048, "epochs": 13}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        "data": "digits",
        "classes": ("0", "1"),
        "per_class": 8,
        "evaluate": 100,
        "batch_size": 4,
        "epochs": 3,
        "survivors": 3,
    },
    "cpu": _FULL,
    "gpu": _FULL,
    "paper": {**_FULL, "evaluate_on": "test"},
}
"""What each scale gives to ``search_orderings``; ``paper`` evaluates on test data, as the thesis did."""


def reproduce_ordering(
    scale: Scale = "smoke",
    *,
    out: str | Path,
    data: str | None = None,
    test: str | None = None,
    jobs: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Run the thesis' perfect ordering; called again it goes on where it stopped.

    Args:
        scale: ``"smoke"`` (seconds, on embedded digits), ``"cpu"`` (in full, at most 15 minutes on 2 cores),
            ``"gpu"`` (the same on one GPU), ``"paper"`` (the same, evaluated on test data).
        out: folder of the results.
        data: MNIST, for example ``"idx:PATH"``; ``"smoke"`` needs none.
        test: for ``"paper"``, where the data have no test part.
        jobs: trees at a time.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.

    Returns:
        The summary, see ``search_orderings``.

    Raises:
        ConfigError: unknown scale. DataError: the data were not named, or cannot be read.
    """
    if scale not in SCALES:
        raise ConfigError(f"thesis-2.1 has no scale {scale!r}: give one of {', '.join(SCALES)}")
    given = {key: value for key, value in SCALES[scale].items() if key != "data"}
    source = data or SCALES[scale].get("data")
    if source is None:
        raise DataError(
            f"thesis-2.1 at scale {scale} needs MNIST (its 10,000 test digits are enough): give for example"
            " --data idx:PATH"
        )
    title = f"Perfect ordering (thesis-2.1, scale {scale})"
    return search_orderings(source, out=out, title=title, test=test, jobs=jobs, device=device, **given)
