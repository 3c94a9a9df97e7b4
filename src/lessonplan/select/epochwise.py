"""Selection once an epoch: score the whole set, train on what is kept (ASSIST algorithm 8)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from lessonplan.batch import Samples
from lessonplan.errors import ConfigError
from lessonplan.network.network import Network
from lessonplan.select.asking import Scoring
from lessonplan.select.base import Part, Scored
from lessonplan.select.control import MatchedRandom
from lessonplan.select.selection import Selection
from lessonplan.select.stage import Stage
from lessonplan.select.tally import Tally

RESAMPLED = 1 << 30
"""Added to the epoch of an augmentation that shall not be the one that was scored."""

_CHUNK = 512


class Epochwise(Stage):
    """Score every training sample at an epoch's start and train on those that are kept.

    Scores are read in chunks and only indices and scores are held: 12 bytes a sample and selector. Augmentation
    is keyed by epoch and index, so that exactly the scored pixels are trained on.

    Args:
        selection: filters and selectors.
        every: epochs between scorings; in between, what was kept stays.
        resample: train on other augmentations than were scored (the thesis' "soft" behaviour).
        scoring: how samples are scored.

    Raises:
        ConfigError: ``every`` is below 1.
    """

    name: ClassVar[str] = "epochwise"
    STATE: ClassVar[tuple[str, ...]] = ("_position", "kept", "weights")

    def __init__(
        self,
        selection: Selection | Part,
        every: int = 1,
        resample: bool = False,
        scoring: Scoring | None = None,
    ) -> None:
        if every < 1:
            raise ConfigError(f"epochwise: every={every}: give 1 or more epochs")
        super().__init__(selection, scoring)
        if any(isinstance(part, MatchedRandom) and part.of is not None for part in self.selection.parts):
            raise ConfigError("matched-random:of=... replays what was kept of raw batches: write batchwise")
        self.every, self.resample = every, resample
        self._position = 0
        self._passing, self._scores = _Gathered(), [_Gathered() for _ in self.selection.selectors]
        self.kept: Tensor | None = None
        self.weights: Tensor | None = None

    def due(self, epoch: int) -> bool:
        """Whether samples have to be scored before this epoch."""
        return self.kept is None or epoch % self.every == 0

    def augmentation_epoch(self, epoch: int) -> int:
        """Which draw of the augmentation an epoch is trained on: the scored one, or with ``resample`` another."""
        return epoch + RESAMPLED if self.resample else epoch

    def restart(self) -> None:
        """Forget what was kept."""
        self._position, self._passing = 0, _Gathered()
        self._scores = [_Gathered() for _ in self.selection.selectors]
        self.kept = self.weights = None

    def score(
        self, data: Samples, network: Network, epoch: int, generator: torch.Generator, tally: Tally
    ) -> Generator[None, None, None]:
        """Score chunk after chunk, yielding after each; afterwards ``kept`` and ``weights`` are there.

        Args:
            data: all candidates.
            network: asked, unless no part needs it.
            epoch: which draw of the augmentation.
            generator: of the selection, on the CPU.
            tally: counts.
        """
        chunks = [torch.arange(i, min(i + _CHUNK, len(data))) for i in range(self._position, len(data), _CHUNK)]
        own = [self.scoring.part(chunk, network.ranks) for chunk in chunks]
        read = data.batches(iter(own), epoch=epoch) if self.selection.needs == "forward" else None
        try:
            yield from self._score_chunks(chunks, read, data, network, generator, tally)
        finally:
            # Closed by name: workers that read ahead would outlive an exception.
            close = getattr(read, "close", None)
            if close is not None:
                close()
        scores = [gathered.values for gathered in self._scores]
        chosen = self.selection.select(self._passing.values, scores, len(data), generator)
        self.kept, self.weights = chosen.positions.clone(), chosen.weights
        self._passing, self._scores = _Gathered(), []
        tally.kept = len(chosen.positions)

    def _score_chunks(
        self,
        chunks: list[Tensor],
        read: Iterator[tuple[Tensor, Tensor]] | None,
        data: Samples,
        network: Network,
        generator: torch.Generator,
        tally: Tally,
    ) -> Iterator[None]:
        for indices in chunks:
            if read is not None:
                found = self.scoring.together(network, *next(read), len(indices))
                scored = Scored(indices, data.labels[indices], *found).on_host()
                tally.scored += len(indices)
            else:
                scored = Scored(indices, data.labels[indices])
            passing = self.selection.passing(scored, generator)
            left = scored.rows(passing)
            for scores, part in zip(self._scores, self.selection.selectors, strict=True):
                scores.add(part.score(left).cpu(), len(data))
            self._passing.add(indices[passing], len(data))
            self._position += len(indices)
            yield

    def state_dict(self) -> dict[str, Any]:
        """What was kept, and how far the scoring is."""
        return {
            **super().state_dict(),
            "passing": self._passing.values.clone(),
            "scores": [gathered.values.clone() for gathered in self._scores],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        super().load_state_dict(state)
        self._passing, self._scores = _Gathered(), [_Gathered() for _ in state["scores"]]
        for gathered, values in zip(
            [self._passing, *self._scores], [state["passing"], *state["scores"]], strict=True
        ):
            gathered.add(values, len(values))


class _Gathered:
    """Values that come in pieces, in one tensor, so that they are not held twice when they are put together."""

    def __init__(self) -> None:
        self._room, self._count = torch.empty(0, dtype=torch.int64), 0

    @property
    def values(self) -> Tensor:
        """What has come so far."""
        return self._room[: self._count]

    def add(self, piece: Tensor, most: int) -> None:
        """Take a piece, of ``most`` values in all."""
        if len(self._room) < most:
            room = torch.empty(most, dtype=piece.dtype)  # memory is taken where it is written to
            room[: self._count] = self.values
            self._room = room
        self._room[self._count : self._count + len(piece)] = piece
        self._count += len(piece)
