"""Stratified splits, keyed by a seed, in which equal samples never land in two parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lessonplan.data.keyed import keyed_bits, stream_key
from lessonplan.errors import DataError

_SPLIT = 0x5350_4C49_54  # keeps the order of a split apart from other uses of the same seed


def share(fraction: float, count: int) -> int:
    """How many of ``count`` samples a fraction takes: rounded, at least 1 and leaving 1 where that is possible.

    >>> [share(0.2, n) for n in (1, 2, 10, 13)]
    [0, 1, 2, 3]
    """
    if fraction <= 0 or count < 2:
        return 0
    return min(max(int(fraction * count + 0.5), 1), count - 1)


def keyed_order(rows: Tensor, seed: int, groups: Tensor) -> Tensor:
    """Rows in an order keyed by the seed; rows of one group stand side by side."""
    bits = keyed_bits(stream_key(seed, _SPLIT), groups[rows], 1)[:, 0]
    return rows[torch.argsort(bits, stable=True)]


def stratified_split(
    labels: Tensor,
    sizes: Sequence[int | float],
    *,
    seed: int,
    rows: Tensor | None = None,
    groups: Tensor | None = None,
    class_names: Sequence[str] | None = None,
) -> list[Tensor]:
    """Cut rows into parts that hold the same number, or the same fraction, of every class.

    The samples of each class are put in an order keyed by the seed and dealt out part by part; so a part
    that grows keeps what it had, if it is the first one. A group of equal samples belongs to the part that
    first takes one of them; copies that find no room there are in no part.

    Args:
        labels: ``(N,)`` int64 class of every row.
        sizes: per part, an int (that many of every class) or a float in ``[0, 1]`` (that fraction of every
            class, rounded, with one sample left over where there are two).
        seed: key of the order.
        rows: ``(n,)`` rows to cut; None means all.
        groups: ``(N,)`` int64; rows with the same number hold the same content. None: all differ.
        class_names: for error messages.

    Returns:
        ``len(sizes) + 1`` sorted int64 tensors of rows; the last holds what is left.

    Raises:
        DataError: a class has fewer samples than an int part wants.

    >>> first, rest = stratified_split(torch.tensor([0, 0, 0, 1, 1, 1]), [1], seed=0)
    >>> torch.tensor([0, 0, 0, 1, 1, 1])[first], len(rest)
    (tensor([0, 1]), 4)
    """
    rows = torch.arange(len(labels)) if rows is None else rows
    groups = torch.arange(len(labels)) if groups is None else groups
    owners: dict[int, int] = {}
    parts: list[list[int]] = [[] for _ in range(len(sizes) + 1)]
    order = keyed_order(rows, seed, groups)
    by_class = {int(c): order[labels[order] == c].tolist() for c in labels[rows].unique()}
    for c in range(len(class_names) if class_names is not None else 0):
        by_class.setdefault(c, [])
    group_of = groups.tolist()
    counts = {c: len(members) for c, members in by_class.items()}
    for part, size in enumerate([*sizes, len(rows)]):
        for c, members in by_class.items():
            wanted = share(size, counts[c]) if isinstance(size, float) else size
            kept: list[int] = []
            taken = 0
            for row in members:
                if taken < wanted and owners.get(group_of[row], part) == part:
                    owners[group_of[row]] = part
                    parts[part].append(row)
                    taken += 1
                else:
                    kept.append(row)
            if part < len(sizes) and isinstance(size, int) and taken < wanted:
                name = class_names[c] if class_names is not None else str(c)
                raise DataError(
                    f"class {name!r} has only {taken} distinct samples left where {wanted} are wanted: "
                    f"ask for at most {taken} per class or add samples of this class"
                )
            by_class[c] = kept
    return [torch.tensor(sorted(part), dtype=torch.int64) for part in parts]
