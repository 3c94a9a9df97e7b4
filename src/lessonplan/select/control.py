"""The control that a comparison of selections needs: as many samples, taken at random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lessonplan.errors import ConfigError, DataError
from lessonplan.files import read_json_lines
from lessonplan.select.base import Filter, Scored
from lessonplan.select.filters import AccuracyFilter

Record = list[tuple[int, int]]


@dataclass(eq=False)
class MatchedRandom(Filter):
    """Keep as many candidates as a run that selects has kept, but any of them.

    With ``of`` it replays that run's record: of its i-th raw batch it keeps as many as the run kept of its own,
    at random. With the same seed, budget, batch sizes and stage options both draw the same raw batches, make as
    many updates with as many samples and cost the same; a difference between them is due to which samples are
    taken, and to nothing else.

    Without ``of`` it keeps of each raw batch as many as ``AccuracyFilter`` would by the present network, which is
    this run's own: a network that learns from random samples gets more of them wrong, so over a whole run it keeps
    more than the filter's run does.

    Args:
        margin: of the accuracy filter that is matched without ``of``, in (0, 1], or None.
        of: folder of the run whose record is replayed; in a comparison also the name of a method.

    Raises:
        ConfigError: the margin is outside of (0, 1], both are given, or the record is missing, too short or of
            other batch sizes.
    """

    name: ClassVar[str] = "matched-random"
    STATE: ClassVar[tuple[str, ...]] = ("_place",)
    margin: float | None = None
    of: str | None = None

    def __post_init__(self) -> None:
        if self.margin is not None and self.of is not None:
            raise ConfigError(
                f"matched-random got margin={self.margin:g} and of={self.of}: the run's record says how many are"
                " kept, leave the margin out"
            )
        self._matched = AccuracyFilter(self.margin)
        self._record: Record | None = None
        self._place = 0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """What the accuracy filter keeps, from which the number is taken without ``of``."""
        return self._matched(logits, targets)

    def mask(self, scored: Scored, generator: torch.Generator) -> Tensor:
        """As many as the record says, or a random permutation of the accuracy filter's choice."""
        if self.of is None:
            kept = self._matched.mask(scored, generator)
            return kept[torch.randperm(len(kept), generator=generator).to(kept.device)]
        kept = torch.zeros(len(scored), dtype=torch.bool)
        kept[torch.randperm(len(scored), generator=generator)[: self._next(len(scored))]] = True
        return kept

    def _next(self, candidates: int) -> int:
        """How many the run kept of the next raw batch."""
        record = self._recorded()
        if self._place >= len(record):
            raise ConfigError(
                f"matched-random: {self.of} has selected from {len(record)} raw batches, and this run draws more:"
                " give both the same budget, in any unit but time"
            )
        there, kept = record[self._place]
        if there != candidates:
            raise ConfigError(
                f"matched-random: raw batch {self._place + 1} has {candidates} candidates, and had {there} in"
                f" {self.of}: give both runs the same data, batch size and options of batchwise (max_age=none"
                " where the other has no filter)"
            )
        self._place += 1
        return kept

    def _recorded(self) -> Record:
        if self._record is None:
            self._record = read_record(Path(str(self.of)))
        return self._record

    def config(self) -> dict[str, Any]:
        """As of each part; in place of a run's folder what its record is told by."""
        config = super().config()
        if self.of is None:
            del config["of"]  # came later: older runs lack it
        elif self._record is not None or Path(self.of).is_dir():
            digest = hashlib.blake2b(repr(self._recorded()).encode(), digest_size=6).hexdigest()
            config["of"] = f"record {digest}"
        return config

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave; older ones have no place in a record."""
        super().load_state_dict({"place": 0, **state})


def read_record(folder: Path) -> Record:
    """Candidates and kept of every raw batch that a run has selected from, in their order.

    Args:
        folder: of the run; its ``metrics.jsonl`` is read.

    Raises:
        ConfigError: there is no such record. DataError: it is damaged.
    """
    record: Record = []
    for line in read_json_lines(folder / "metrics.jsonl"):
        told = line.get("select")
        drawn, kept = (
            told.get(f"{name}_each") if isinstance(told, dict) else None for name in ("candidates", "kept")
        )
        if not (isinstance(drawn, list) and isinstance(kept, list) and len(drawn) == len(kept)):
            record = []
            break
        record += zip(drawn, kept, strict=True)
    if not all(isinstance(count, int) and not isinstance(count, bool) for pair in record for count in pair):
        raise DataError(f"{folder / 'metrics.jsonl'} counts samples by what is no whole number: put it back")
    if not record:
        raise ConfigError(
            f"matched-random:of={folder} is no run that selected batchwise and noted what it kept: give the folder"
            " of one, or in a comparison the name of a method"
        )
    return record
