"""Candidates ordered or sampled by a score of each: a loss, a label, a user's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lessonplan.batch import Batch
from lessonplan.errors import ConfigError
from lessonplan.network.passes import Passes
from lessonplan.network.ranks import ALONE
from lessonplan.order.base import Orderer, Ranking
from lessonplan.order.measure import sample_losses
from lessonplan.order.options import Amount, check_amount
from lessonplan.order.regroup import choice_of_samples
from lessonplan.order.strategies import SAMPLINGS, Strategy, check_strategy, pick

Score = Callable[[Tensor, Tensor], Tensor]
"""A user's score: ``(x (B, ...), y (B,)) -> (B,)``, one number a sample, or a scalar for the batch."""


@dataclass(eq=False, kw_only=True)
class ByScore(Orderer):
    """Score the candidates, then order or sample them (thesis, sections 2.3 and 2.4.1).

    The learning item is a batch, whose score is the mean of its samples' scores, or a sample.

    Args:
        k: candidates: batches drawn from the pool for each look, or "all".
        score: "loss" (by a forward pass in training mode, without dropout), "label", or a function
            ``(x, y) -> (B,)`` of the user.
        order: "ascending" or "descending" (ordering strategies: what is taken is used up); "smallest", "largest",
            "weighted", "inverse" or "uniform" (sampler strategies: it stays in the pool). See ``strategies.pick``.
        items: what is scored and taken: whole "batches", or "samples", of which new batches are made.
        temperature: of weighted draws, above 0.
        winners, pool, losers, warmup: see ``Orderer``.

    >>> ByScore(k=4, score=lambda x, y: x.flatten(1).std(1), order="descending").config()["order"]
    'descending'
    """

    name: ClassVar[str] = "by-score"
    k: Amount = 8
    score: Literal["loss", "label"] | Score = "loss"
    order: Strategy = "ascending"
    items: Literal["batches", "samples"] = "batches"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_amount(self.name, "k", self.k)
        check_strategy(self.name, self.order, self.temperature)
        if self.items not in ("batches", "samples"):
            raise ConfigError(f"{self.name}: items={self.items!r}: give 'batches' or 'samples'")
        if not callable(self.score) and self.score not in ("loss", "label"):
            raise ConfigError(f"{self.name}: score={self.score!r}: give 'loss', 'label' or a function of (x, y)")
        super().__post_init__()

    @property
    def drawn(self) -> Amount:
        """As many as ``k`` says."""
        return self.k

    @property
    def with_replacement(self) -> bool:
        """Whether the order is a sampler's."""
        return self.order in SAMPLINGS

    def needs_network(self) -> bool:
        """Whether scores are losses."""
        return self.score == "loss" and self.order != "uniform"

    def choose(self, candidates: list[Batch], count: int) -> Ranking:
        """Score all candidates; the first of the order are winners."""
        if self.order == "uniform":
            scores = [torch.zeros(len(batch), dtype=torch.float32) for batch in candidates]
        else:
            scores = self._all_scores(candidates)
            if self.needs_network():
                self._passes = self._passes.plus(Passes.forward(sum(len(batch) for batch in candidates)))
        if self.items == "samples":
            return self._choose_samples(candidates, torch.cat(scores), count)
        means = torch.stack([score.mean() for score in scores])
        places = pick(means, self.order, count, self.generator, self.temperature).tolist()
        losers = [batch for place, batch in enumerate(candidates) if place not in places]
        return Ranking([candidates[place] for place in places], losers)

    def _all_scores(self, candidates: list[Batch]) -> list[Tensor]:
        """The scores of each candidate, on the CPU; each candidate is scored by one of the ranks.

        Ranks that share the network out score all of them together, each the whole of a candidate.
        """
        sizes = [len(batch) for batch in candidates]
        ranks = self._learner.network.ranks if self._learner is not None else ALONE
        if ranks.alone or ranks.sharded:
            found = torch.cat([self._scores(batch).float() for batch in candidates])  # read back at once
            if ranks.sharded:
                ranks.level([found])
            return list(found.cpu().split(sizes))
        return [scores.float() for scores in ranks.each(candidates, self._scores, sizes)]

    def _scores(self, batch: Batch) -> Tensor:
        """One score a sample, ``(B,)``."""
        x, y = batch.read(self.data)
        if self.score == "loss":
            found = sample_losses(self.learner, batch, self.data)
        elif self.score == "label":
            found = y
        else:
            assert callable(self.score)
            with torch.no_grad():
                found = self.score(x, y)
        if found.ndim == 0 and self.items == "batches":
            return found.expand(len(batch))
        if found.shape != (len(batch),):
            raise ConfigError(
                f"{self.name}: {len(batch)} samples got scores of shape {tuple(found.shape)}: give one number a"
                f" sample, ({len(batch)},)" + (", or one for the batch" if self.items == "batches" else "")
            )
        return found

    def _choose_samples(self, candidates: list[Batch], scores: Tensor, count: int) -> Ranking:
        """New batches of the size of the old ones from the best samples; the others are dealt out anew."""
        taken = sum(len(batch) for batch in candidates[:count])
        order = pick(scores, self.order, taken, self.generator, self.temperature)
        if not self.with_replacement:
            return choice_of_samples(candidates, order, count, self.data, self.generator)
        winners = choice_of_samples(candidates, order, count, self.data, None).winners
        return Ranking(winners, candidates)


@dataclass(eq=False, kw_only=True)
class MultiAttempt(ByScore):
    """The thesis' multi-attempt loss: of k candidates, the one with the smallest loss (section 2.4.1).

    Args:
        k: candidates for each update (the thesis tried 8, 16, 32, 64).
        order: "ascending" is the thesis', "descending" never learned there; "weighted" and "inverse" sample in
            proportion to losses or their inverses. Others are those of ``ByScore``.
        items, temperature, winners, pool, losers, warmup: see ``ByScore``.

    >>> MultiAttempt(k=16).config()
    {'name': 'multi-attempt', 'k': 16}
    """

    name: ClassVar[str] = "multi-attempt"
    score: Literal["loss", "label"] | Score = field(default="loss", init=False, repr=False)
