"""The cores of this machine, and whether others keep them busy."""

from __future__ import annotations

import os

import psutil

_BUSY = 1.5
"""Load a core above which others are at work: threads of our own that compute make no more than 1."""
SAID_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables of the environment that tell PyTorch how many threads it takes."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float | None:
    """Processes that want a core, averaged over the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def busy() -> str | None:
    """That others keep the cores busy, with the numbers; None where they do not, or the system does not tell."""
    cores, wanted = os.cpu_count() or 1, load()
    if wanted is None or wanted <= _BUSY * cores:
        return None
    return f"the machine is busy ({wanted:.0f} processes want its {cores} cores)"


def crowded(threads: int) -> str | None:
    """``busy``, where CPU threads that nobody has asked for would wait for each other; else None.

    Args:
        threads: PyTorch's. One waits for none; a number that is neither our cores' nor the processor's is a wish.
    """
    own = {usable_cores(), psutil.cpu_count(logical=False)}
    if threads == 1 or threads not in own or any(os.environ.get(name) for name in SAID_BY):
        return None
    return busy()
