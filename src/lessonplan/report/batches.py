"""Whether the methods of a comparison were trained in batches of one size."""

from __future__ import annotations

from collections.abc import Sequence

from lessonplan.report.formatting import count, listing, number
from lessonplan.report.reading import Json


def different_batches(methods: Sequence[Json]) -> str:
    """A sentence where methods were trained in batches of different sizes; else nothing.

    The automatic size of a head depends on whether its features are kept, which a mix of pixels prevents.

    >>> plain, ncm = {"name": "plain", "runs": [{"batch_size": 66}]}, {"name": "ncm", "runs": [{}]}
    >>> different_batches([plain, ncm])
    ''
    >>> different_batches([plain, {"name": "cutmix", "runs": [{"batch_size": 32}]}])
    'Batches differ: 32 samples for cutmix; 66 samples for plain. Give batch_size for equal ones.'
    """
    by_size: dict[int, list[str]] = {}
    for method in methods:
        sizes = (number(run.get("batch_size")) for run in method.get("runs") or ())
        for size in sorted({int(size) for size in sizes if size is not None}):
            by_size.setdefault(size, []).append(method["name"])
    if len(by_size) < 2:
        return ""
    said = "; ".join(f"{count(size)} samples for {listing(names)}" for size, names in sorted(by_size.items()))
    return f"Batches differ: {said}. Give batch_size for equal ones."
