"""A confusion matrix to zoom into: all of it, and the classes of the worst pairs alone, with counts and shares."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lessonplan.confusion import classes_of, frequent_confusions
from lessonplan.report.formatting import count, percent, shorten

READABLE = 24  # classes up to which numbers can be read
_FEW = 12  # classes that are seen at a glance
_STEPS = (READABLE, _FEW, 6)  # classes of the worst pairs, step by step nearer
_HUE = (59, 134, 200)  # of a cell, readable under dark and under light ink when it is translucent
_DARKEST = 0.72
_LONGEST = 18  # characters of a class' name


@dataclass(frozen=True)
class Cell:
    """A number of samples as text; ``share`` is of the true class, in per cent, ``shade`` in [0, 1] for its square
    root."""

    count: str
    share: str
    shade: str


@dataclass(frozen=True)
class Level:
    """A matrix, or part of one.

    Attributes:
        words: which classes, for the reader to choose by.
        names: theirs.
        rows: a cell for each pair, true class by row; None where there is no sample. Empty where it is a picture.
        picture: data URI of a PNG with a pixel a pair; empty where it is a table.
    """

    words: str
    names: Sequence[str]
    rows: Sequence[Sequence[Cell | None]] = ()
    picture: str = ""


def zoom_levels(counts: NDArray[np.int64], names: Sequence[str], whole: bool = True) -> list[Level]:
    """The matrix, and nearer and nearer the classes that are confused most often.

    Args:
        counts: ``(C, C)``, true class by row, predicted class by column.
        names: C class names.
        whole: begin with the whole matrix: as a table up to 24 classes, as a picture of more.

    Returns:
        levels, each with fewer classes than the one before; up to 12 classes no more than the whole.
    """
    classes, totals = len(counts), counts.sum(1)
    short = [shorten(name, _LONGEST) for name in names]
    levels, shown = [], classes + 1
    if whole:
        every = list(range(classes))
        picture = "" if classes <= READABLE else _picture(counts, totals)
        rows = [] if picture else _rows(counts, totals, every)
        levels.append(Level(f"all {classes} classes", short, rows, picture))
        shown = classes
    pairs = frequent_confusions(counts, READABLE**2) if classes > _FEW else []
    for step in _STEPS:
        chosen = classes_of(pairs, step)
        if chosen and len(chosen) < min(shown, classes):
            shown = len(chosen)
            rows = _rows(counts, totals, chosen)
            words = f"{shown} classes of the worst pairs"
            levels.append(Level(words, [short[i] for i in chosen], rows))
    return levels


def _rows(counts: NDArray[np.int64], totals: NDArray[np.int64], chosen: Sequence[int]) -> list[list[Cell | None]]:
    return [[_cell(int(counts[true, taken]), int(totals[true])) for taken in chosen] for true in chosen]


def _cell(samples: int, total: int) -> Cell | None:
    if not samples:
        return None
    share = samples / total
    return Cell(count(samples), percent(share, 1 if share < 0.1 else 0), f"{_DARKEST * share**0.5:.2f}")


def _picture(counts: NDArray[np.int64], totals: NDArray[np.int64]) -> str:
    """A pixel a pair, as opaque as its shade, so that it can lie on a light and on a dark page.

    The darkest is the largest share beside the diagonal: next to right answers mistakes could hardly be seen.
    """
    share = counts / np.maximum(totals[:, None], 1)
    largest = float(np.where(np.eye(len(counts), dtype=bool), 0, share).max()) or 1.0
    shade = _DARKEST * np.sqrt(np.minimum(share / largest, 1))
    image = Image.fromarray(np.rint(255 * shade).astype(np.uint8)).convert("P")
    image.putpalette(_HUE * 256)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", transparency=bytes(range(256)), optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
