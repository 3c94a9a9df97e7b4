"""The samples of a set by the part they are in, and how each is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lessonplan.data import Data
from lessonplan.data.base import Source, content_keys, file_names
from lessonplan.data.small import small_pictures
from lessonplan.data.walk import printable

HELD_BACK = ("validation", "test")
"""Parts that judge: what training has seen of them makes results too good."""
LISTED, SHOWN = 1000, 48
"""Entries of a list that a record holds, and those of them that it holds with a picture."""


@dataclass(frozen=True)
class Part:
    """Some rows of a source.

    Attributes:
        name: ``"training"``, ``"validation"``, ``"test"``, or ``"left out"``.
        source: raw samples.
        rows: ``(n,)`` int64.
    """

    name: str
    source: Source
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)


class Samples:
    """All samples of some parts, numbered from 0 in the order of the parts.

    Args:
        parts: the parts.

    Attributes:
        part: ``(N,)`` int64, the number of each sample's part.
        labels: ``(N,)`` int64.
    """

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.part = torch.cat([torch.full((len(p),), number) for number, p in enumerate(parts)])
        self.rows = torch.cat([p.rows for p in parts])
        self.labels = torch.cat([p.source.labels[p.rows] for p in parts])
        self.class_names = parts[0].source.class_names

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, *names: str) -> Tensor:
        """Which samples ``(N,)`` bool are in one of the parts."""
        wanted = [number for number, p in enumerate(self.parts) if p.name in names]
        return torch.isin(self.part, torch.tensor(wanted, dtype=torch.int64))

    def keys(self) -> list[bytes] | None:
        """A key for the content of each sample; None where a part's are not known, or are of another kind."""
        known: dict[int, list[bytes] | None] = {}
        for p in self.parts:
            if id(p.source) not in known:
                known[id(p.source)] = content_keys(p.source)
        found = [known[id(p.source)] for p in self.parts]
        if any(keys is None for keys in found) or len({keys[0][:1] for keys in found if keys}) > 1:
            return None
        return [keys[row] for p, keys in zip(self.parts, found, strict=True) if keys for row in p.rows.tolist()]

    def told(self, number: int, *, picture: bool = False) -> dict[str, Any]:
        """A sample for a file of ours: its part, its file or row, its class, perhaps a small picture."""
        part, row = self.parts[int(self.part[number])], self.rows[number : number + 1]
        names = file_names(part.source, row)
        told = {
            "part": part.name,
            "where": printable(names[0]) if names else f"row {int(row)}",
            "class": self.class_names[int(self.labels[number])],
        }
        return {**told, "png": small_pictures(part.source.read(row))[0]} if picture else told


def samples_of(data: Data) -> tuple[Samples, Samples]:
    """The samples that are used, and those and the ones that are in no part (as copies are, see ``load``)."""
    source = data.train.source
    views = {"training": data.train, "validation": data.val, "test": data.test}
    parts = [Part(name, view.source, view.rows) for name, view in views.items() if view is not None]
    used = torch.zeros(len(source), dtype=torch.bool)
    for part in parts:
        if part.source is source:
            used[part.rows] = True
    others = Part("left out", source, (~used).nonzero().flatten())
    return Samples(parts), Samples([*parts, others] if len(others) else parts)
