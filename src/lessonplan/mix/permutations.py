"""Permutations from numbers that were drawn: what sorting them says."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lessonplan.mix.memory import ordinary

_MANY = 256  # numbers from which on this is quicker than argsort: a third of the time with 1,000
_DIGITS = 24  # binary ones of what is drawn from [0, 1) as float32


def permutations(drawn: Tensor) -> Tensor:
    """``drawn.argsort(1)`` of what ``torch.rand`` gave: the same places, sooner.

    Each number and its place are put into one integer, and NumPy sorts integers several at a time. Where two
    numbers are the same (one batch of 1,024 in 32), it is PyTorch that says which goes first.

    Args:
        drawn: ``(count, n)`` float32, each a multiple of 2^-24 in [0, 1), as ``torch.rand`` draws them.

    Returns:
        ``(count, n)`` int64, a permutation a row.

    >>> permutations(torch.tensor([[0.75, 0.25, 0.5]]))
    tensor([[1, 2, 0]])
    """
    n = drawn.shape[1]
    if n < _MANY or not ordinary(drawn):
        return drawn.argsort(1)
    bits = (n - 1).bit_length()
    keys = (drawn * 2.0 ** (_DIGITS + bits)).long().numpy()
    keys |= np.arange(n)
    keys.sort(axis=1)
    numbers = keys >> bits
    if (numbers[:, 1:] == numbers[:, :-1]).any():
        return drawn.argsort(1)
    keys &= (1 << bits) - 1
    return torch.from_numpy(keys)
