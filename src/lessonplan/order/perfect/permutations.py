"""Splits into batches, and the orders in which the batches can come."""

from __future__ import annotations

import math
import random
from itertools import permutations as all_permutations

import torch
from torch import Tensor

from lessonplan.errors import ConfigError
from lessonplan.seeds import fold_seed

MOST_BATCHES = 10
"""More batches than this are not enumerated: 11! permutations take gigabytes before the first update."""


def batch_split(samples: int, batch_size: int, seed: int) -> tuple[Tensor, ...]:
    """Cut sample numbers into batches at random.

    Args:
        samples: how many there are.
        batch_size: samples of a batch; the last one may be smaller.
        seed: the same seed gives the same split.

    Returns:
        Batches of sample numbers, int64 ``(batch_size,)``, each sorted.

    Raises:
        ConfigError: the split has fewer than two batches, so that there is only one order.

    >>> [len(batch) for batch in batch_split(48, 8, seed=0)]
    [8, 8, 8, 8, 8, 8]
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size}: give at least 1 sample a batch")
    if batch_size >= samples:
        raise ConfigError(
            f"batches of {batch_size} cut {samples} training samples into one batch, which has one order:"
            " give a smaller batch size or more samples"
        )
    generator = torch.Generator().manual_seed(fold_seed(seed, "split"))
    shuffled = torch.randperm(samples, generator=generator)
    return tuple(batch.sort().values for batch in shuffled.split(batch_size))


def count_permutations(batches: int, at_most: int | None = None) -> int:
    """How many orders of the batches are trained.

    >>> count_permutations(6), count_permutations(20, at_most=500)
    (720, 500)
    """
    if at_most is not None and at_most < 1:
        raise ConfigError(f"max_permutations={at_most}: give at least 1")
    count = math.factorial(batches)
    return count if at_most is None else min(count, at_most)


def tree_updates(batches: int) -> int:
    """Updates of all permutations whose common beginnings are trained once: the sum of n! / (n - k)!, k = 1..n.

    Without sharing they are ``n * n!``.

    >>> tree_updates(6), 6 * count_permutations(6)
    (1956, 4320)
    """
    return sum(math.perm(batches, depth) for depth in range(1, batches + 1))


def permutations(batches: int, at_most: int | None = None, seed: int = 0) -> Tensor:
    """Orders of batches in lexicographic order, so that common beginnings stand together.

    Args:
        batches: n.
        at_most: draw this many distinct ones where there are more, without listing the others.
        seed: of the draw.

    Returns:
        ``(P, n)`` int64, each row a permutation of 0..n-1.

    Raises:
        ConfigError: all permutations are wanted of more batches than can be enumerated.

    >>> permutations(3)[:3]
    tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2]])
    """
    wanted, there = count_permutations(batches, at_most), math.factorial(batches)
    if wanted < there:
        ranks = _distinct_ranks(wanted, there, random.Random(fold_seed(seed, "permutations")))
        return torch.tensor([unranked(rank, batches) for rank in ranks], dtype=torch.int64)
    if batches > MOST_BATCHES:
        raise ConfigError(
            f"{batches} batches have {large(there)} permutations: give max_permutations to train a sample of them,"
            f" or larger batches (up to {MOST_BATCHES} batches are enumerated)"
        )
    return torch.tensor(list(all_permutations(range(batches))), dtype=torch.int64)


def unranked(rank: int, batches: int) -> list[int]:
    """The permutation with a lexicographic rank in 0..n!-1 (the factorial number system).

    >>> unranked(0, 3), unranked(5, 3)
    ([0, 1, 2], [2, 1, 0])
    """
    left, order = list(range(batches)), []
    for position in range(batches, 0, -1):
        place, rank = divmod(rank, math.factorial(position - 1))
        order.append(left.pop(place))
    return order


def large(count: int) -> str:
    """A count that may have thousands of digits, as a person reads it.

    >>> large(720), large(10**40)
    ('720', '10^40')
    """
    return f"{count:,}" if count < 10**15 else f"10^{int(math.log10(count))}"


def _distinct_ranks(wanted: int, there: int, source: random.Random) -> list[int]:
    if 2 * wanted > there:
        return sorted(source.sample(range(there), wanted))
    ranks: set[int] = set()
    while len(ranks) < wanted:
        ranks.add(source.randrange(there))
    return sorted(ranks)
