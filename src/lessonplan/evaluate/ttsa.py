"""Test-time sum augmentation: predict from averages of an input with random training samples (thesis 3.6)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lessonplan.errors import ConfigError, DataError
from lessonplan.evaluate.defence import Of, RandomisedDefence, average
from lessonplan.evaluate.network import Progress
from lessonplan.network.untouched import evaluating


class TestTimeSum(RandomisedDefence):
    """Average the predictions for ``copies`` sums of the input and k - 1 fresh samples of a pool (thesis 3.6).

    The input's weight in a sum is ``weight / (weight + k - 1)``, a partner's ``1 / (weight + k - 1)``: the
    thesis' weights ``lambda / k`` and ``1 / (k lambda)`` sum to 1 at lambda = 1, where both agree, and at
    lambda = k - 1 alone.

    Args:
        model: a network that gives logits ``(N, C)``.
        pool: samples ``(P, ...)`` as the network takes them, P >= k; training data, so that nothing is learned
            from test data.
        k: samples in a sum, the input included, 2 or more.
        copies: sums a prediction is averaged over.
        weight: lambda, above 0; larger trusts the input more.
        chunk: samples that go through the network at a time; memory grows with it and with nothing else.
        of: ``"probabilities"`` (the thesis) or ``"logits"``: what is averaged.
        generator: where partners are drawn from; None starts one from seed 0.

    Raises:
        ConfigError, DataError: an option out of range, a pool smaller than k or of another shape.

    >>> defence = TestTimeSum(nn.Flatten(), torch.tensor([[0.0, 2.0], [0.0, 2.0]]), k=2, copies=3)
    >>> defence(torch.tensor([[2.0, 0.0]])).exp()  # every sum is (1, 1)
    tensor([[0.5000, 0.5000]])
    """

    __test__ = False  # the name is no invitation to pytest

    def __init__(
        self,
        model: nn.Module,
        pool: Tensor,
        k: int = 4,
        copies: int = 16,
        weight: float = 1.0,
        chunk: int = 512,
        of: Of = "probabilities",
        generator: torch.Generator | None = None,
    ) -> None:
        if k < 2:
            raise ConfigError(f"k={k} sums nothing at test time: give k of at least 2, or call the model itself")
        if len(pool) < k:
            raise DataError(f"the pool has {len(pool)} samples and k={k}: give a pool of at least k samples")
        own = _own_weight(weight, k)
        super().__init__(
            model, pool, own=own, partners=k - 1, copies=copies, chunk=chunk, of=of, generator=generator
        )
        self.k, self.weight = k, weight

    def with_weight(self, weight: float) -> TestTimeSum:
        """The same defence, sharing model, pool and generator, with another lambda."""
        other = copy.copy(self)
        other.own, other.weight = _own_weight(weight, self.k), weight
        return other

    def _draw(self, copies: int, count: int, known: Tensor | None) -> Tensor:
        shape = (copies, count, self.partners)
        return torch.randint(len(self.pool), shape, generator=self.generator, device=self.generator.device)


def sum_predict(
    model: nn.Module,
    x: Tensor | Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]],
    pool: Tensor,
    k: int = 4,
    copies: int = 16,
    *,
    weight: float = 1.0,
    of: Of = "probabilities",
    chunk: int = 512,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Predict many inputs by test-time sums; the arguments are those of ``TestTimeSum``.

    Args:
        model: a network that gives logits; it works in evaluation mode and has its own mode again afterwards.
        x: inputs ``(N, ...)``, or a loader of batches (of inputs, or of tuples that begin with inputs).
        pool: samples ``(P, ...)``; they are moved to where the network is.
        k: samples in a sum.
        copies: sums a prediction is averaged over.
        weight: lambda.
        of: what is averaged.
        chunk: samples that go through the network at a time.
        generator: where partners are drawn from. On the CPU the chunk does not change what is drawn.
        progress: hears of every sample passed through the network, N times ``copies`` in all.

    Returns:
        ``(N, C)`` float32 on the CPU: probabilities, or averaged logits.

    Raises:
        ConfigError, DataError: as ``TestTimeSum``.
    """
    defence = TestTimeSum(model, pool, k, copies, weight, chunk, of, generator)
    batches = [x] if isinstance(x, Tensor) else (b if isinstance(b, Tensor) else b[0] for b in x)
    with evaluating(model), torch.no_grad():
        outputs = [average(defence.passes(batch, progress), of).cpu() for batch in batches]
    if not outputs:
        raise DataError("there is nothing to predict: give at least one batch")
    joined = torch.cat(outputs)
    return joined if of == "logits" else joined.exp()


def _own_weight(weight: float, k: int) -> float:
    if not 0.0 < weight < math.inf:
        raise ConfigError(f"weight={weight}: the weight lambda of the input must be a finite number above 0")
    return weight / (weight + k - 1)
