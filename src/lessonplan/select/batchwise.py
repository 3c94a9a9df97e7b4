"""Selection before every update: raw batches are scored, and what is kept gathers into batches.

ASSIST algorithm 9 is ``batch_size=None``; algorithm 10 is ``overflow="discard"`` with a raw batch as large as a
batch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from lessonplan.batch import Batch, EpochReader, Samples
from lessonplan.errors import ConfigError
from lessonplan.network.network import Network
from lessonplan.network.passes import Passes
from lessonplan.network.ranks import Ranks
from lessonplan.select.asking import Scoring, same_in_both_modes
from lessonplan.select.base import Part, Scored
from lessonplan.select.selection import Selection
from lessonplan.select.single_pass import SinglePass
from lessonplan.select.stage import Stage
from lessonplan.select.tally import Tally

Overflow = Literal["carry", "discard"]
Reuse = Literal["auto", "always", "never"]

SINGLE_PASS_ABOVE = 2 / 3
"""Acceptance above which one pass over all candidates, 3 a sample, costs less than 1 + 3 a."""

_CONFIDENCE_Z = 1.2816  # of probability .9
_LARGEST_RAW = 16  # times the batch size
_MEMORY = 0.2  # of the newest raw batch in the running acceptance, less where it is smaller than a batch


@dataclass(eq=False)
class _Kept:
    """Accepted samples, and the update before which they were scored."""

    batch: Batch
    born: int


class Batchwise(Stage):
    """Score raw batches, gather what is kept, and hand out full batches.

    Args:
        selection: filters and selectors, applied to each raw batch.
        batch_size: samples of an update; "run" is the run's batch size; None hands out what each raw batch
            leaves (algorithm 9).
        raw_batch_size: candidates drawn at once; "run" is the run's batch size; "auto" draws the fewest that
            fill the batch with probability .9, by the acceptance seen so far, at most 16 times the batch size.
        overflow: accepted samples that the batch has no room for are carried to the next one or discarded.
        max_age: a carried sample that was scored more updates ago (and more than one scoring provides for) is
            scored again; None never.
        refresh: updates that one scoring provides for ("auto" raw batches are that much larger).
        reuse: "auto" makes the scoring pass the training pass where that costs less (most candidates are
            accepted, and one batch needs them) and the network computes the same in both modes; "always" does
            so with batch norm too, which then normalises by all candidates; "never".
        scoring: how candidates are scored.

    Raises:
        ConfigError: an option is out of range, or "auto" meets a selector that takes a fixed number.
    """

    name: ClassVar[str] = "batchwise"
    STATE: ClassVar[tuple[str, ...]] = ("acceptance", "_updates", "_modes_agree")

    def __init__(
        self,
        selection: Selection | Part,
        batch_size: int | Literal["run"] | None = "run",
        raw_batch_size: int | Literal["auto", "run"] = "auto",
        overflow: Overflow = "carry",
        max_age: int | None = 8,
        refresh: int = 1,
        reuse: Reuse = "auto",
        scoring: Scoring | None = None,
    ) -> None:
        super().__init__(selection, scoring)
        self.batch_size, self.raw_batch_size, self.overflow = batch_size, raw_batch_size, overflow
        self.max_age, self.refresh, self.reuse = max_age, refresh, reuse
        self._check()
        self.acceptance = 1.0
        self._pool: deque[_Kept] = deque()
        self._updates = 0
        self._modes_agree: bool | None = None

    def _check(self) -> None:
        for name, value in (("batch_size", self.batch_size), ("raw_batch_size", self.raw_batch_size)):
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"batchwise: {name}={value}: give 1 or more")
        if self.overflow not in ("carry", "discard") or self.reuse not in ("auto", "always", "never"):
            raise ConfigError(
                f"batchwise: overflow={self.overflow!r}, reuse={self.reuse!r}: give carry or discard, and auto,"
                " always or never"
            )
        if self.refresh < 1 or (self.max_age is not None and self.max_age < 0):
            raise ConfigError(
                f"batchwise: refresh={self.refresh}, max_age={self.max_age}: give at least 1, and at least 0 or"
                " none"
            )
        if self.raw_batch_size == "auto" and self.batch_size is not None and self.selection.fixed_size is not None:
            raise ConfigError(
                f"{self.selection} takes {self.selection.fixed_size} of any number of candidates: say of how many"
                " with raw_batch_size, or give the selector a share"
            )

    # -- batches -------------------------------------------------------------------------------------

    def batches(
        self,
        reader: EpochReader,
        network: Network,
        size: int,
        generator: torch.Generator,
        tally: Tally,
        *,
        reusable: bool = True,
    ) -> Iterator[Batch | None]:
        """The batches that an epoch's candidates give; what is left waits for the next epoch.

        Where one pass scores and trains, a raw batch that does not fill the batch is followed by more of them
        at once, and what they have in common is one backward pass.

        Args:
            reader: candidates.
            network: asked for scores.
            size: the run's batch size.
            generator: of the selection, on the CPU.
            tally: counts.
            reusable: whether a scoring pass could be a training pass: samples are trained on as they are.

        Yields:
            a batch, or None after a raw batch that filled none, so that a loop can look at the clock.
        """
        wanted = size if self.batch_size == "run" else self.batch_size
        graph: SinglePass | None = None
        while True:
            if self._score_old_again(reader.data, network, generator, tally):
                yield None
                continue
            if self._waiting >= (wanted or 1):
                yield self._hand_out(wanted or self._waiting, graph, reader.data, network.ranks, tally)
                graph = None
                continue
            raw = reader.take(self._raw_size(wanted, size))
            if graph is not None and (raw is None or not self._still_pays(graph, raw, wanted)):
                graph.forget(tally)
                graph = None
            if raw is None:
                tally.carried = self._waiting
                return
            if graph is None and reusable and self._single_pass(raw, wanted, reader.data, network, tally):
                graph = SinglePass(network, [kept.batch for kept in self._pool], whole=not self._modes_agree)
            kept = self._filter(raw, reader.data, network, graph, generator, tally)
            memory = _MEMORY * min(1.0, len(raw) / (wanted or size))
            self.acceptance += memory * (kept / len(raw) - self.acceptance)
            if graph is None and self._waiting < (wanted or 1):
                yield None

    def _filter(
        self,
        raw: Batch,
        data: Samples,
        network: Network,
        graph: SinglePass | None,
        generator: torch.Generator,
        tally: Tally,
    ) -> int:
        """Score a raw batch; what is kept waits, and how much that is."""
        if self.selection.needs != "forward":
            scored = Scored(raw.indices, data.labels[raw.indices])
        elif graph is not None:
            scored = graph.score(raw, data)
        else:
            scored = Scored(raw.indices, data.labels[raw.indices], *self.scoring.of(network, raw, data))
            tally.scored += len(raw)
        chosen = self.selection.choose(scored, generator)
        if graph is not None:
            graph.keep(chosen.positions)
        tally.raw_batches += 1
        tally.candidates += len(raw)
        tally.accepted += len(chosen.positions)
        tally.chose(len(raw), len(chosen.positions))
        kept = raw.rows(chosen.positions)
        if chosen.weights is not None:
            kept.weights = chosen.weights if kept.weights is None else kept.weights * chosen.weights
        if len(kept):
            self._pool.append(_Kept(kept, self._updates))
        return len(kept)

    def _raw_size(self, wanted: int | None, size: int) -> int:
        if isinstance(self.raw_batch_size, int):
            return self.raw_batch_size
        if self.raw_batch_size == "run" or wanted is None:
            return size
        need = wanted * self.refresh - self._waiting
        return smallest_raw_batch(need, self.acceptance, largest=_LARGEST_RAW * wanted * self.refresh)

    # -- what was accepted ---------------------------------------------------------------------------

    @property
    def _waiting(self) -> int:
        return sum(len(kept.batch) for kept in self._pool)

    def _hand_out(self, size: int, graph: SinglePass | None, data: Samples, ranks: Ranks, tally: Tally) -> Batch:
        """The oldest ``size`` accepted samples, with their logits where they come from a single pass."""
        batch = self._take(size, data, ranks, tally)
        if graph is not None:
            batch.logits, batch.passes = graph.logits(size), Passes.both(graph.forwarded)
            tally.reused += graph.forwarded
        tally.updates += 1
        self._updates += 1
        return batch

    def _take(self, size: int, data: Samples, ranks: Ranks, tally: Tally) -> Batch:
        """The oldest ``size`` accepted samples; what is beyond them is carried or discarded."""
        parts: list[Batch] = []
        missing = size
        while missing:
            kept = self._pool.popleft()
            self._count_age(kept.born, min(missing, len(kept.batch)), tally)
            if len(kept.batch) > missing:
                parts.append(kept.batch.rows(torch.arange(missing)))
                self._pool.appendleft(_Kept(kept.batch.rows(torch.arange(missing, len(kept.batch))), kept.born))
                missing = 0
            else:
                parts.append(kept.batch)
                missing -= len(kept.batch)
        tally.overflow += self._waiting
        if self.overflow == "discard":
            tally.discarded += self._waiting
            self._pool.clear()
        return Batch.joined(parts, data, ranks)

    def _count_age(self, born: int, samples: int, tally: Tally) -> None:
        age = self._updates - born
        tally.trained += samples
        tally.ages += age * samples
        tally.oldest = max(tally.oldest, age)

    def _score_old_again(self, data: Samples, network: Network, generator: torch.Generator, tally: Tally) -> bool:
        """Score samples anew that were carried for too long; whether there were any."""
        if self.max_age is None or not self.selection.filters or self.selection.needs != "forward":
            return False
        oldest = max(self.max_age, self.refresh - 1)
        old = [kept for kept in self._pool if self._updates - kept.born > oldest]
        if not old:
            return False
        batch = Batch.joined([kept.batch for kept in old], data, network.ranks)
        scored = Scored(batch.indices, data.labels[batch.indices], *self.scoring.of(network, batch, data))
        tally.scored += len(batch)
        still = self.selection.passing(scored, generator)
        tally.chose(len(batch), len(still))
        self._pool = deque(kept for kept in self._pool if kept not in old)
        if len(still):
            self._pool.append(_Kept(batch.rows(still), self._updates))
        return True

    # -- one pass for scoring and training -----------------------------------------------------------

    def _single_pass(self, raw: Batch, wanted: int | None, data: Samples, network: Network, tally: Tally) -> bool:
        if self.selection.needs != "forward" or not network.ranks.alone:
            return False
        if self.reuse == "never" or not self.scoring.plain or self.acceptance <= SINGLE_PASS_ABOVE:
            return False
        # 3 for each that waits or is drawn, against 1 for each drawn and 3 for each of the batch.
        if wanted is not None and len(raw) * SINGLE_PASS_ABOVE > wanted - self._waiting:
            return False
        if self.reuse == "always":
            return True
        if self._modes_agree is None:
            self._modes_agree, asked = same_in_both_modes(network.module, raw.read(data)[0])
            tally.scored += asked
        return self._modes_agree

    def _still_pays(self, graph: SinglePass, raw: Batch, wanted: int | None) -> bool:
        """Whether to go on with passes that have not filled the batch: 3 for each, or 1 and 3 for the batch."""
        passed = graph.forwarded + len(raw)
        return self.selection.needs == "forward" and wanted is not None and passed * SINGLE_PASS_ABOVE <= wanted

    # -- state ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What waits, by index; the running acceptance."""
        return {
            **super().state_dict(),
            "pool": [{"born": kept.born, **kept.batch.state_dict()} for kept in self._pool],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        super().load_state_dict(state)
        self._pool = deque(_Kept(Batch.from_state(kept), kept["born"]) for kept in state["pool"])


def smallest_raw_batch(need: int, acceptance: float, largest: int) -> int:
    """The fewest candidates of which ``need`` or more are accepted with probability .9.

    The binomial distribution is taken as normal with a correction for continuity: R p - z sqrt(R p (1 - p)) =
    need - 1/2 is solved for R.

    Args:
        need: accepted samples wanted, at least 1.
        acceptance: probability p that one is accepted, in [0, 1].
        largest: bound of the result.

    >>> smallest_raw_batch(100, 1.0, 1600), smallest_raw_batch(100, 0.5, 1600), smallest_raw_batch(100, 0.0, 1600)
    (100, 218, 1600)
    """
    if acceptance <= 0:
        return largest
    p = min(acceptance, 1.0)
    spread = _CONFIDENCE_Z * math.sqrt(1 - p)
    root = (spread + math.sqrt(spread**2 + 4 * (need - 0.5))) / 2
    return max(1, min(largest, max(need, math.ceil(root**2 / p))))
