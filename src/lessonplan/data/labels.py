"""Labels of any kind to class numbers and names; what is no label of one class a sample is refused by its row."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lessonplan.errors import DataError

Array = npt.NDArray[Any]
UNLABELLED = -1
_LARGEST = 2.0**53  # up to here a float64 tells whole numbers apart
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
    names = tuple(
        v.decode("utf-8", "replace") if isinstance(v, bytes) else writable(str(v)) for v in values.tolist()
    )
    return torch.from_numpy(numbers.astype(np.int64).reshape(-1)), names


def class_numbers(
    labels: Sequence[Any], names: Sequence[str] | None, row_name: Callable[[int], str]
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as class numbers, with names from the file or from the labels themselves."""
    count = len(names) if names is not None else None
    if labels and all(label is None or label == UNLABELLED for label in labels):
        raise Unlabelled(f"{row_name(0)} and all rows behind it are unlabelled (the label is {labels[0]!r})")
    for i, label in enumerate(labels):
        number = isinstance(label, int)
        unlabelled = label is None or (number and label < 0) or not isinstance(label, (int, str))
        if unlabelled or (number and count is not None and label >= count):
            allowed = f"0..{count - 1}" if count is not None else "a class number or name"
            raise DataError(f"{row_name(i)} has the label {label!r}, not {allowed}")
    words = [isinstance(label, str) for label in labels]
    if any(words) and not all(words):
        named, numbered = words.index(True), words.index(False)
        raise DataError(
            f"{row_name(named)} has the label {labels[named]!r} and {row_name(numbered)} has {labels[numbered]!r}:"
            " give numbers everywhere, or names"
        )
    if names is None or any(words):
        return to_labels(list(labels))
    return torch.tensor(list(labels), dtype=torch.int64), tuple(names)


def writable(name: str) -> str:
    r"""A name as text that any file takes: halves of characters are written out.

    >>> writable("caf\u00e9"), writable("a\ud800")
    ('café', 'a\\ud800')
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


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
        if not any(_is_float(item) for item in items):
            return _of_integers(items)
        return np.asarray(items, dtype=np.float64)
    kinds = sorted({type(item).__name__ for item in items})
    raise DataError(f"labels of several types ({', '.join(kinds)}): give numbers, or give names")


def _of_integers(items: list[Any]) -> Array:
    try:
        return np.asarray(items, dtype=np.int64)
    except OverflowError:
        row = next(row for row, item in enumerate(items) if not -(2**63) <= int(item) < 2**63)
        raise _too_large(row, items[row]) from None


def _too_large(row: int, label: Any) -> DataError:
    said = f"{float(label):g}" if abs(label) < 1e300 else "a number of hundreds of digits"
    return DataError(f"sample {row} has the label {said}: give class numbers of at most 15 digits, or names")


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
    large = np.flatnonzero(np.abs(array.astype(np.float64)) > _LARGEST)
    if len(large):  # beyond it neighbouring numbers are one, and classes would be
        raise _too_large(int(large[0]), array[large[0]])
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


def one_spelling(name: str) -> str:
    """A class name as names are compared: accents in one piece (NFC), which file systems spell in two ways."""
    return unicodedata.normalize("NFC", name)
