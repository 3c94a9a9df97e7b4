"""What a run uses of the machine."""

from __future__ import annotations

import contextlib
import os
import platform
from typing import Any

import psutil
import torch

from lessonplan.version import __version__


def memory_use(device: torch.device) -> dict[str, float]:
    """Memory of this process in MB; on a GPU also its memory and utilisation (where the driver tells)."""
    use = {"memory_mb": psutil.Process().memory_info().rss / 2**20}
    if device.type == "cuda":
        use["gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
        with contextlib.suppress(ImportError, RuntimeError):  # the management library is an optional package
            use["gpu_utilisation"] = float(torch.cuda.utilization(device))
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
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
