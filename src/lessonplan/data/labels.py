"""Labels of any kind to class numbers and names; what is no label of one class a sample is refused by its row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lessonplan.errors import DataError

Array = npt.NDArray[Any]
UNLABELLED = -1
_ONE = "a label must be one class number or name a sample"


class Unlabelled(DataError):
    """Labels that say that there are none."""


def to_labels(y: Array | Tensor | Sequence[Any]) -> tuple[Tensor, tuple[str, ...]]:
    """Labels of any kind to class numbers and names: classes in the order of their values.

    Args:
        y: ``(N,)`` or ``(N, 1)`` whole numbers (of any type), truth values or names (NumPy, pandas, lists).

    Raises:
        DataError: labels that lack, are several to a sample, or have fractions. Unlabelled: some are -1 beside
            others than 1, or all are.

    >>> to_labels(["dog", "cat", "dog"])
    (tensor([1, 0, 1]), ('cat', 'dog'))
    """
    array = _plain(_as_array(y))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        raise DataError(_of_rows(array))
    if array.ndim != 1 or array.dtype.kind not in "iufbUSO":
        raise DataError(f"labels of type {array.dtype} and shape {array.shape} cannot be used: {_ONE}")
    if array.dtype.kind == "f":
        array = _whole(array)
    values, numbers = np.unique(array, return_inverse=True)
    if array.dtype.kind == "i" and UNLABELLED in values and values.tolist() != [-1, 1]:
        raise Unlabelled(_unlabelled(int((array == UNLABELLED).sum()), len(array)))
    names = tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist())
    return torch.from_numpy(numbers.astype(np.int64).reshape(-1)), names


def _as_array(y: Any) -> Array:
    if isinstance(y, Tensor):
        return np.asarray(y.detach().cpu())
    if isinstance(y, (list, tuple)) and any(isinstance(item, Tensor) for item in y):
        y = [item.detach().cpu().numpy() if isinstance(item, Tensor) else item for item in y]
    if isinstance(y, (list, tuple)) and any(_ends_in_zero(item) for item in y):
        return np.fromiter(y, dtype=object, count=len(y))
    try:
        return np.asarray(y)
    except ValueError:  # rows of different lengths
        return np.fromiter(y, dtype=object, count=len(y))


def _plain(array: Array) -> Array:
    """Names and numbers that are kept as objects (pandas, variable-length strings) as what they are."""
    if array.dtype.kind not in "OT":
        return array
    items = array.reshape(-1).tolist()
    lacking = next((row for row, item in enumerate(items) if _lacks(item)), None)
    if lacking is not None:
        raise DataError(f"sample {lacking} has no label ({items[lacking]!r}): leave such samples out")
    several = next((row for row, item in enumerate(items) if np.ndim(item) and not isinstance(item, str)), None)
    if several is not None or array.ndim > 1:
        raise DataError(f"sample {several or 0} has several labels ({items[several or 0]!r}): {_ONE}")
    if all(isinstance(item, (str, bytes)) for item in items):
        words = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in items]
        return np.array(words, dtype=object if any(map(_ends_in_zero, words)) else None)
    if all(isinstance(item, (bool, np.bool_)) for item in items):
        return np.asarray(items, dtype=bool)
    if all(isinstance(item, (int, float, np.number)) for item in items):
        return np.asarray(items, dtype=np.float64 if any(_is_float(item) for item in items) else np.int64)
    kinds = sorted({type(item).__name__ for item in items})
    raise DataError(f"labels of several types ({', '.join(kinds)}): give numbers, or give names")


def _ends_in_zero(item: Any) -> bool:
    """Whether NumPy's own type for texts would cut something off."""
    return isinstance(item, (str, bytes)) and item[-1:] in ("\0", b"\0")


def _is_float(item: Any) -> bool:
    return isinstance(item, (float, np.floating))


def _lacks(item: Any) -> bool:
    """None, NaN and pandas' NA: nothing that is equal to itself."""
    if item is None:
        return True
    if np.ndim(item):
        return False
    same = item == item
    return not isinstance(same, (bool, np.bool_)) or not same


def _whole(array: Array) -> Array:
    lacking = np.flatnonzero(~np.isfinite(array))
    if len(lacking):
        raise DataError(f"sample {lacking[0]} has no label ({array[lacking[0]]}): leave such samples out")
    fractions = np.flatnonzero(array != np.rint(array))
    if len(fractions):
        raise DataError(
            f"sample {fractions[0]} has the label {array[fractions[0]]}: labels must be classes, and these have"
            " fractions"
        )
    return array.astype(np.int64)


def _of_rows(array: Array) -> str:
    """What is wrong with one row of numbers a sample."""
    start = f"labels of shape {array.shape}: {_ONE}"
    if array.dtype.kind not in "iufb":
        return start
    rows = array.astype(np.float64)
    if np.isin(rows, (0.0, 1.0)).all():
        counts = rows.sum(1)
        if (counts == 1).all():
            return f"{start}; these are one-hot: give labels.argmax(1)"
        return f"{start}, and {int((counts != 1).sum())} of these samples have none or several"
    return f"{start}; rows of shares are what mixing makes of labels, not what it starts from"


def _unlabelled(count: int, total: int) -> str:
    if count == total:
        return f"unlabelled: all {total} labels are -1"
    return f"{count} of {total} labels are -1, which says unlabelled: leave these samples out, or give names"
