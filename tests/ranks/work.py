"""What ranks do in the tests of what they tell one another."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from lessonplan.errors import DataError, LessonplanError
from lessonplan.network.ranks import Ranks


def collectives() -> dict[str, Any]:
    """Each of them once, on three ranks."""
    rank = dist.get_rank()
    ranks = Ranks(rank, dist.get_world_size(), dist.new_group(backend="gloo"))
    rows = torch.arange(14.0).view(7, 2)
    level = [torch.full((2,), float(rank)), torch.tensor([rank]), torch.full((1, 1), float(rank))]
    ranks.level(level, source=1)
    calls: list[int] = []

    def first() -> list[Any]:
        calls.append(1)
        return [1, None, "x"]

    def fails() -> None:
        raise DataError("no such file")

    raised = ("", "")
    try:
        ranks.by_first(fails)
    except LessonplanError as error:
        raised = type(error).__name__, str(error)
    return {
        "rows": ranks.rows(rows[ranks.part(7)], 7),
        "joined": ranks.joined(torch.full((rank + 1,), rank)),
        "each": [
            found.tolist()
            for found in ranks.each(range(5), lambda place: torch.tensor([place, place / 2]), sizes=[2] * 5)
        ],
        "summed": ranks.summed([1.0, float(rank)]),
        "any": [ranks.any(rank == 2), ranks.any(False)],
        "all": [ranks.all(rank != 2), ranks.all(True)],
        "level": level,
        "told": ranks.told({"of": rank, "tensor": torch.tensor([float(rank)])}, source=2),
        "all_told": ranks.all_told(str(rank) * (rank + 1)),
        "first": ranks.by_first(first),
        "raised": raised,
        "calls": len(calls),
    }
