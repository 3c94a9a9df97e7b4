"""Mixup Inference: test-time sums of two whose partner is chosen by the predicted class (arXiv:1909.11515)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, DataError
from lessonplan.evaluate.defence import Of, RandomisedDefence


class MixupInference(RandomisedDefence):
    """Average the predictions for ``lam * x + (1 - lam) * partner`` (Pang, Xu and Zhu 2020, eq. 4).

    The network first predicts a class for the plain input; partners come from that class
    (``variant="predicted"``, MI-PL) or from one drawn uniformly among all others (``"other"``, MI-OL).

    Args:
        model: a network that gives logits ``(N, C)``.
        pool: samples ``(P, ...)`` as the network takes them.
        labels: their classes ``(P,)``, integer, each of the C classes at least once.
        variant: which partners.
        lam: the input's share in [0, 1), .5 in the authors' code.
        copies: mixes a prediction is averaged over, 30 in the authors' code.
        chunk: samples that go through the network at a time.
        of: ``"probabilities"`` or ``"logits"``: what is averaged.
        generator: where partners are drawn from; None starts one from seed 0.

    Raises:
        ConfigError, DataError: an option out of range, a class without samples, shapes that differ.
    """

    labels: Tensor
    order: Tensor
    counts: Tensor

    def __init__(
        self,
        model: nn.Module,
        pool: Tensor,
        labels: Tensor,
        variant: Literal["predicted", "other"] = "other",
        lam: float = 0.5,
        copies: int = 30,
        chunk: int = 512,
        of: Of = "probabilities",
        generator: torch.Generator | None = None,
    ) -> None:
        if variant not in ("predicted", "other"):
            raise ConfigError(f"variant={variant!r}: give predicted or other")
        if not 0.0 < lam < 1.0:
            raise ConfigError(f"lam={lam}: the input's share must lie between 0 and 1, both excluded")
        super().__init__(model, pool, own=lam, partners=1, copies=copies, chunk=chunk, of=of, generator=generator)
        if labels.shape != (len(pool),) or labels.is_floating_point() or len(labels) == 0 or int(labels.min()) < 0:
            raise DataError(f"a pool of {len(pool)} samples needs as many integer labels of 0 or more")
        where = self.generator.device
        self.variant = variant
        self.order = labels.to(where).argsort(stable=True)
        self.counts = labels.to(where).long().bincount()
        if int(self.counts.min()) == 0:
            missing = int(self.counts.argmin())
            raise DataError(f"the pool has no sample of class {missing}: give at least one of every class")

    def _look(self, x: Tensor) -> Tensor:
        """The class predicted for each plain input, ``(N,)``."""
        with torch.no_grad():
            parts = [self.model(part.to(self.pool.device)) for part in x.split(self.chunk)]
        outputs = parts[0].shape[1]
        if outputs != len(self.counts):
            raise DataError(
                f"the model has {outputs} outputs, but the pool has samples of {len(self.counts)} classes"
            )
        return torch.cat([part.argmax(1) for part in parts]).to(self.generator.device)

    def _draw(self, copies: int, count: int, known: Tensor | None) -> Tensor:
        assert known is not None
        classes = len(self.counts)
        # Two numbers a partner in one draw, so that the grouping of copies changes nothing.
        u = torch.rand(
            copies, count, 2, generator=self.generator, device=self.generator.device, dtype=torch.float64
        )
        chosen = known.expand(copies, count)
        if self.variant == "other":
            if classes < 2:
                raise DataError("there is no other class to draw partners from: the pool has one class only")
            other = (u[..., 0] * (classes - 1)).long().clamp(max=classes - 2)
            chosen = other + (other >= chosen).long()
        size = self.counts[chosen]
        inside = torch.minimum((u[..., 1] * size).long(), size - 1)
        first = self.counts.cumsum(0) - self.counts
        return self.order[first[chosen] + inside].unsqueeze(-1)
