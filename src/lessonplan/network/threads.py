"""How many CPU threads work: sums of many numbers differ in their last bits with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lessonplan.errors import MachineWarning
from lessonplan.machine import crowded


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Let PyTorch work with so many threads inside, None with as many as it does; afterwards it is as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def own_threads() -> int:
    """How many CPU threads to train with where nobody has said it: PyTorch's number, or 1 on a busy machine.

    The threads of an operator wait for the last of them. Where one finds no core, small networks take several
    times as long as with one thread. That one is taken is said in a warning, because the last bits of the weights
    depend on the number.
    """
    threads = torch.get_num_threads()
    told = crowded(threads)
    if told is None:
        return threads
    warnings.warn(
        f"{told}, where CPU threads wait for each other: training takes 1 instead of {threads}"
        f" (--threads {threads}, or threads={threads}, takes them all the same; the last bits of the weights"
        " depend on it)",
        MachineWarning,
        stacklevel=4,
    )
    return 1
