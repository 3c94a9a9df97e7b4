"""The cores of this machine, and whether others keep them busy."""

from __future__ import annotations

import os

_BUSY = 1.5
"""Load a core above which others are at work: threads of our own make no more than 1."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float | None:
    """Processes that want a core, averaged over the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def crowded(threads: int) -> str | None:
    """What to know before training with several threads on cores that others keep busy, or None.

    The threads of an operator wait for the last of them: where one finds no core, small networks take several
    times as long. How many there are is not decided by the load of a moment, since the last bits of the weights
    depend on it.

    Args:
        threads: CPU threads that PyTorch is going to use.
    """
    cores, wanted = os.cpu_count() or 1, load()
    if threads < 2 or wanted is None or wanted <= _BUSY * cores:
        return None
    return (
        f"the machine is busy ({wanted:.0f} processes want its {cores} cores), and {threads} CPU threads wait for"
        " each other: small networks train several times as fast with one (--threads 1, or threads=1)"
    )
