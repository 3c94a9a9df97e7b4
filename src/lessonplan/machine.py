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


def busy() -> str | None:
    """That others keep the cores busy, with the numbers; None where they do not, or the system does not tell."""
    cores, wanted = os.cpu_count() or 1, load()
    if wanted is None or wanted <= _BUSY * cores:
        return None
    return f"the machine is busy ({wanted:.0f} processes want its {cores} cores)"
