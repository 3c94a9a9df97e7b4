"""In which order the files of a folder are sent, so that what has arrived is at any moment a folder to go on from.

A process that is killed leaves a folder that can be read and resumed, because files are written in an order:
weights before the result that names them, a table after the runs in it. What is sent comes in the same order.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import PurePosixPath


class Turn(IntEnum):
    """When a file's turn comes; what is later may name what is earlier.

    ``GONE`` are files that were deleted, but for checkpoints, whose deletion comes last.
    """

    BEFORE = 0
    GONE = 1
    BEGUN = 2
    GROWING = 3
    CHECKPOINT = 4
    OTHER = 5
    RESULT = 6
    TABLE = 7
    PAGE = 8
    OLD_CHECKPOINT = 9


_BY_NAME = {
    "continued.json": Turn.BEFORE,
    "config.yaml": Turn.BEGUN,
    "began.json": Turn.BEGUN,
    "given.yaml": Turn.BEGUN,
    "result.json": Turn.RESULT,
    "evaluation.json": Turn.RESULT,
    "source.json": Turn.TABLE,
    "results.json": Turn.TABLE,
    "results.csv": Turn.TABLE,
    "runs.csv": Turn.TABLE,
    "ordering.json": Turn.TABLE,
    "overview.json": Turn.TABLE,
    "tune.json": Turn.TABLE,
    "advice.json": Turn.TABLE,
    "metrics.jsonl.gz": Turn.TABLE,
    "answers.json.gz": Turn.TABLE,
    "index.html": Turn.PAGE,
}
_GROW = (".jsonl", ".journal", ".txt")


def turn_of(name: str) -> Turn:
    """When a file is sent.

    Args:
        name: relative to the folder, with slashes.

    >>> turn_of("runs/erm/weights.safetensors") < turn_of("runs/erm/result.json") < turn_of("results.csv")
    True
    """
    path = PurePosixPath(name)
    if path.parent.name == "checkpoints":
        return Turn.CHECKPOINT
    if path.suffix in _GROW or ".tfevents." in path.name:
        return Turn.GROWING
    return _BY_NAME.get(path.name, Turn.OTHER)
