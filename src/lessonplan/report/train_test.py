"""Training and test data side by side, with their ratios (ASSIST tables 4.4 to 4.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lessonplan.measures import JUDGED, OF_TEST, OF_TRAINING
from lessonplan.report.formatting import fixed, number, percent
from lessonplan.report.reading import Json

MEASURES = tuple(
    (title, train, "mean" if test == "test_accuracy" else test)
    for title, train, test in zip(JUDGED.values(), OF_TRAINING, OF_TEST, strict=True)
)
"""Title, and the keys of a method in ``results.json``; its ``mean`` is that of the test accuracy."""


@dataclass(frozen=True)
class Cell:
    """One measure of one method, as text: means over seeds, and the ratio of these means, test to training."""

    train: str
    test: str
    ratio: str


def measured(methods: Sequence[Json]) -> bool:
    """Whether any method was judged on its whole training set."""
    return any(number(method.get("train_loss")) is not None for method in methods)


def cells(method: Json) -> list[Cell]:
    """A method's row, a cell a measure.

    >>> cells({"mean": 0.9, "train_accuracy": 1.0, "test_loss": 0.3, "train_loss": 0.2})[:2]
    [Cell(train='100.00', test='90.00', ratio='0.900'), Cell(train='0.200', test='0.300', ratio='1.500')]
    """
    row = []
    for _, train_key, test_key in MEASURES:
        train, test = number(method.get(train_key)), number(method.get(test_key))
        ratio = test / train if train and test is not None else None
        if train_key == "train_accuracy":
            row.append(Cell(percent(train), percent(test), fixed(ratio, 3)))
        else:
            row.append(Cell(fixed(train, 3), fixed(test, 3), fixed(ratio, 3)))
    return row


def backward_differs(methods: Sequence[Json]) -> bool:
    """Whether samples were forwarded without a backward pass, in any method."""
    return any(
        number(method.get("forwarded")) is not None
        and number(method.get("forwarded")) != number(method.get("backpropagated"))
        for method in methods
    )
