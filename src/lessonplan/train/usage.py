"""What a run uses of the machine."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import psutil
import torch

from lessonplan.network.accelerator import is_accelerator, name_of
from lessonplan.version import __version__

_SECONDS_BETWEEN = 0.5


def machine_use(device: torch.device) -> dict[str, float]:
    """What a run takes of the machine at this moment (the list of ASSIST section 4.1).

    Returns:
        ``memory_mb`` and ``threads`` of this process, ``free_memory_mb`` of the machine and ``cpu_utilisation``
        of all its cores, in percent since the last call; on a GPU ``gpu_memory_mb`` (the most so far),
        ``gpu_utilisation`` in percent, ``gpu_temperature`` in degrees Celsius and ``gpu_power_w`` in watts, as
        far as the driver tells.
    """
    process = _process(os.getpid())
    use = {
        "memory_mb": process.memory_info().rss / 2**20,
        "free_memory_mb": psutil.virtual_memory().available / 2**20,
        "threads": float(process.num_threads()),
        "cpu_utilisation": psutil.cpu_percent(),
    }
    if is_accelerator(device):
        module: Any = torch.get_device_module(device)
        asked: dict[str, Callable[[], float]] = {
            "gpu_memory_mb": lambda: module.max_memory_allocated(device) / 2**20,
            "gpu_utilisation": lambda: module.utilization(device),
            "gpu_temperature": lambda: module.temperature(device),
            "gpu_power_w": lambda: module.power_draw(device) / 1000,  # told in milliwatts
        }
        for name, ask in asked.items():
            # What drivers, and the management library beside them, do not tell on some machines is left out.
            with contextlib.suppress(Exception):
                use[name] = float(ask())
    return use


@lru_cache(maxsize=1)
def _process(pid: int) -> psutil.Process:
    """This process; making the object reads more files than asking it."""
    return psutil.Process(pid)


class MachineUse:
    """What a run takes of the machine, asked at most twice a second.

    Over less than a tenth ``cpu_utilisation`` means nothing (psutil's documentation), and asking takes a small
    network half an update: short epochs share a record.

    Args:
        device: whose GPU's use is told.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._asked = -math.inf
        self._use: dict[str, float] = {}

    def now(self) -> dict[str, float]:
        """See ``machine_use``."""
        at = time.monotonic()
        if at - self._asked >= _SECONDS_BETWEEN:
            self._asked, self._use = at, machine_use(self._device)
        return dict(self._use)


def environment(device: str = "cpu") -> dict[str, Any]:
    """Versions and hardware, for the record of a result."""
    return {
        "lessonplan": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "device": name_of(torch.device(device)),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
