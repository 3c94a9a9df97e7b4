"""Pictures of samples that a comparison's page names, found in the data again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from lessonplan.data import Data
from lessonplan.data.base import Source, file_names
from lessonplan.data.small import small_pictures
from lessonplan.data.walk import printable
from lessonplan.errors import LessonplanError, LessonplanWarning, first_line

_TOGETHER = 65_536  # rows whose names are looked up at a time


def pictures_of(data: Data, names: Sequence[str]) -> dict[str, str]:
    """Small pictures as base64 PNG by the names that ``predictions.csv`` has: files, or else indices in the data.

    Args:
        data: any split of them: what one seed tests another may train on.
        names: of judged samples; what is no picture, and a name that is not there, is left out.
    """
    view = data.test if data.test is not None else data.val
    if view is None:
        return {}
    try:
        rows = _rows(view.source, names)
        pictures = small_pictures(view.source.read(torch.tensor(list(rows.values())))) if rows else []
    except LessonplanError as error:
        warnings.warn(f"left pictures out of the page: {first_line(error)}", LessonplanWarning, stacklevel=2)
        return {}
    return {name: png for name, png in zip(rows, pictures, strict=True) if png is not None}


def _rows(source: Source, names: Sequence[str]) -> dict[str, int]:
    """Where named samples are in their source."""
    every = torch.arange(len(source))
    if file_names(source, every[:1]) is None:
        return {name: int(name) for name in names if name.isdecimal() and int(name) < len(source)}
    found: dict[str, int] = {}
    for rows in every.split(_TOGETHER):
        for row, name in zip(rows.tolist(), map(printable, file_names(source, rows) or ()), strict=True):
            if name in names:
                found.setdefault(name, row)
        if len(found) == len(names):
            break
    return found
