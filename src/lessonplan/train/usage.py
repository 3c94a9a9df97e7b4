"""What a run uses of the machine."""

from __future__ import annotations

import contextlib
import os
import platform
from typing import Any

import psutil
import torch

from lessonplan.network.accelerator import is_accelerator, name_of
from lessonplan.version import __version__


def memory_use(device: torch.device) -> dict[str, float]:
    """Memory of this process in MB; on a GPU also its memory and utilisation (where the driver tells)."""
    use = {"memory_mb": psutil.Process().memory_info().rss / 2**20}
    if is_accelerator(device):
        module: Any = torch.get_device_module(device)
        # What drivers, and the management library beside them, do not tell on some machines is left out.
        with contextlib.suppress(Exception):
            use["gpu_memory_mb"] = module.max_memory_allocated(device) / 2**20
        with contextlib.suppress(Exception):
            use["gpu_utilisation"] = float(module.utilization(device))
    return use


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
