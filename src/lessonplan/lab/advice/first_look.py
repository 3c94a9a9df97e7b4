"""A look at the data before the tournament: kept beside it, and a stop where the parts overlap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lessonplan.data import Data
from lessonplan.errors import DataError
from lessonplan.lab.data_check.checking import FILE, look, store
from lessonplan.lab.data_check.labels import Weights
from lessonplan.report.data_words import findings, leak_sentence, leaks
from lessonplan.report.reading import read_json_if_there

FOLDER = "data"
_SHARE = 0.01  # of the time, that each slow part of the look may take


def weights_of(model: str, settings: Mapping[str, Any]) -> Weights:
    """The network whose features labels are judged by: that of the plans."""
    return Weights(model, str(settings["weights"]), settings.get("feature_cache"))


def look_first(
    data: Data,
    weights: Weights | None,
    root: Path,
    *,
    per_class: int | None,
    val_fraction: float,
    seconds: float | None,
    allow_duplicates: bool,
    say: Callable[[str], None],
) -> list[list[int]]:
    """Look at the data once a tournament; ``data/index.html`` in its folder shows what was found.

    Args:
        data: as the tournament opened them; a validation part is one of their own.
        weights: of the plans, or None.
        root: the tournament's folder.
        per_class, val_fraction: what is asked for.
        seconds: that the whole tournament may take; None: it is measured by cost.
        allow_duplicates: whether a leak is no reason to stop.
        say: what to call with what matters.

    Returns:
        rows of near copies among the labelled samples, group by group.

    Raises:
        DataError: a held-back picture has a near copy among those that are trained on.
    """
    record = read_json_if_there(root / FOLDER / FILE)
    if record.get("schema") != 1 or record.get("fingerprint") != data.fingerprint:
        record = look(
            data,
            weights,
            per_class=per_class,
            val_fraction=val_fraction,
            workers=data.train.workers,
            seed=0,
            seconds=None if seconds is None else _SHARE * seconds,
        )
        store(record, root / FOLDER)
    for level, sentence in findings(record):
        if level == "warning":
            say(sentence)
    together: list[list[int]] = record["near"].get("together") or []
    if not leaks(record):
        return together
    if not allow_duplicates:
        raise DataError(
            f"{leak_sentence(record)}: take the copies out ({root / FOLDER}/index.html shows them), or give"
            " --allow-duplicates (allow_duplicates=True) to go on all the same"
        )
    say(f"{leak_sentence(record)}; they are allowed")
    return together
