"""How often each training sample was chosen: the same worst ones again and again (ASSIST section 5.1)?"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lessonplan.parts.state import Stateful

_MOST_BARS = 40  # of the histogram; more distinct counts share bars


class Choices(Stateful):
    """A count for each training sample of how often a selection's batches held it.

    What is counted is what was handed out to be trained on: accepted samples that were discarded, or wait at the
    end, are not. Four bytes a sample.

    Args:
        samples: of the training set.
    """

    STATE: ClassVar[tuple[str, ...]] = ("_counts",)

    def __init__(self, samples: int) -> None:
        self._counts = torch.zeros(samples, dtype=torch.int32)

    @property
    def counts(self) -> Tensor:
        """``(N,)`` int32, on the CPU."""
        return self._counts

    def add(self, indices: Tensor) -> None:
        """Count a batch: positions ``(B,)`` int64 in the training set, on the CPU; repeats count each."""
        self._counts.index_add_(0, indices, torch.ones(len(indices), dtype=torch.int32))

    def concentration(self) -> dict[str, float | None]:
        """How unequal the counts are; None where nothing was chosen.

        ``never`` is the share of samples that was not chosen once, ``top_tenth`` the share of choices that went to
        the most chosen tenth of the samples (rounded up), ``gini`` the Gini coefficient: 0 where all were chosen
        equally often, near 1 where all choices went to one sample.

        >>> choices = Choices(10)
        >>> choices.add(torch.tensor([3, 3, 3, 5]))
        >>> choices.concentration()
        {'never': 0.8, 'top_tenth': 0.75, 'gini': 0.85}
        """
        ordered = self._counts.sort().values.double()
        n, total = len(ordered), ordered.sum().item()
        if not total:
            return {"never": None, "top_tenth": None, "gini": None}
        ranks = torch.arange(1, n + 1, dtype=torch.float64)
        return {
            "never": (self._counts == 0).double().mean().item(),
            "top_tenth": ordered[n - -(-n // 10) :].sum().item() / total,
            "gini": round(2 * (ranks * ordered).sum().item() / (n * total) - (n + 1) / n, 12),
        }

    def result(self, labels: Tensor, class_names: tuple[str, ...] | list[str]) -> dict[str, Any]:
        """The whole run, for ``result.json``.

        Args:
            labels: ``(N,)`` of the training samples.
            class_names: a name a class.

        Returns:
            the concentration; how many ``samples`` and ``choices`` there were; a ``histogram`` of rows
            ``[from, to, samples]``, counts from and to included; and ``by_class``, by name, how often a sample of
            the class was chosen on average (None for a class without samples).
        """
        labels, counts = labels.cpu().long(), self._counts.double()
        sizes = torch.bincount(labels, minlength=len(class_names))
        chosen = torch.bincount(labels, weights=counts, minlength=len(class_names))
        names = [*class_names, *map(str, range(len(class_names), len(sizes)))]
        return {
            **self.concentration(),
            "samples": len(counts),
            "choices": int(counts.sum()),
            "histogram": self._histogram(),
            "by_class": {
                name: total / size if size else None
                for name, total, size in zip(names, chosen.tolist(), sizes.tolist(), strict=True)
            },
        }

    def _histogram(self) -> list[list[int]]:
        most = int(self._counts.max())
        width = -(-(most + 1) // _MOST_BARS)
        samples = torch.bincount((self._counts // width).long()).tolist()
        return [[bar * width, (bar + 1) * width - 1, number] for bar, number in enumerate(samples)]
