"""A pretended accelerator: ``torch.device("pretended")`` has the manners of a CUDA device, on any machine.

Its memory is the host's and its kernels are the CPU's, so results are those of the CPU, bit for bit; what it adds
is strictness (``device.cpp``), random numbers of its own, two devices, and the knowledge of where the host waits::

    with watching("/lessonplan/") as seen:
        lp.fit("tiny", "digits", "mixup", "1ep", device="pretended")
    seen.waits   # Counter({Wait(what='value read', operation='item', line='train/trainer.py:12'): 1})

It cannot show what cuDNN or asynchronous kernels compute differently, nor what does not fit a device's memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils import cpp_extension

NAME = "pretended"
HERE = Path(__file__).parent
_installed: list[torch.library.Library] = []


def install() -> None:
    """Load the device, compiled where its source or PyTorch has changed, and give it its name."""
    if _installed:
        return
    torch.ops.load_library(_compiled(HERE / "device.cpp"))
    ops = torch.ops.pretended
    python_side = torch.library.Library("pretended", "FRAGMENT")
    python_side.impl("hear", _hear, "CompositeExplicitAutograd")
    _installed.append(python_side)
    ops.install()
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _device_module(ops))
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)


def _compiled(source: Path) -> Path:
    """The shared library of a source: about a minute of ``c++``, once."""
    key = hashlib.sha256(f"{torch.__version__} {source.read_text()}".encode()).hexdigest()[:16]
    library = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lessonplan-tests" / f"{key}.so"
    if library.exists():
        return library
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise RuntimeError(f"the pretended accelerator needs a C++ compiler: {compiler!r} is not installed")
    library.parent.mkdir(parents=True, exist_ok=True)
    unfinished = library.with_suffix(f".{os.getpid()}")
    command = [compiler, "-std=c++20", "-O1", "-g0", "-fPIC", "-shared", str(source), "-o", str(unfinished)]
    command += [flag for folder in cpp_extension.include_paths() for flag in ("-isystem", folder)]
    command += [
        flag for folder in cpp_extension.library_paths() for flag in (f"-L{folder}", f"-Wl,-rpath,{folder}")
    ]
    subprocess.run([*command, "-ltorch_cpu", "-ltorch", "-lc10"], check=True)
    return unfinished.replace(library)


def _device_module(ops: Any) -> types.ModuleType:
    """``torch.pretended``: what PyTorch and this package ask of a device's module."""
    module = types.ModuleType(f"torch.{NAME}")

    def seed_all(seed: int) -> None:
        for index in range(ops.device_count()):
            ops.set_random_state(index, torch.Generator().manual_seed(seed).get_state())

    def utilization(device: Any = None) -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    members: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: ops.device_count(),
        "current_device": lambda: ops.current_device(),
        "set_device": lambda device: ops.set_device(_index(device)),
        "synchronize": lambda device=None: ops.synchronize(),
        "manual_seed": seed_all,
        "manual_seed_all": seed_all,
        "get_rng_state": lambda device=NAME: ops.random_state(_index(device)),
        "set_rng_state": lambda state, device=NAME: ops.set_random_state(_index(device), state),
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16],
        "get_device_name": lambda device=None: "pretended accelerator",
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "utilization": utilization,
    }
    for name, member in members.items():
        setattr(module, name, member)
    return module


def _index(device: Any) -> int:
    index = torch.device(device).index if not isinstance(device, int) else device
    return int(torch.ops.pretended.current_device()) if index is None else index


class Wait(NamedTuple):
    """Something for which the host stands still until the device has done all it was told."""

    what: str
    operation: str
    line: str


@dataclass
class Seen:
    """``waits``: each with its number; ``launches``: about how many kernels (a list of tensors is one)."""

    waits: Counter[Wait] = field(default_factory=Counter)
    launches: int = 0

    @property
    def number(self) -> int:
        """How often the host waited."""
        return sum(self.waits.values())


_watchers: list[tuple[Seen, str]] = []


def _hear(what: str, operation: str) -> None:
    for seen, within in _watchers:
        seen.waits[Wait(what, operation, _line(within))] += 1


def _line(within: str) -> str:
    """The innermost line of the watched code; the backward pass runs in a thread that has none."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if within in name and not name.startswith(str(HERE)):
            return f"{name.rsplit(within, 1)[-1].lstrip('/')}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


@contextmanager
def watching(within: str = "/lessonplan/") -> Iterator[Seen]:
    """Count what makes the host wait, with the line in the files whose names hold ``within``."""
    seen = Seen()
    _watchers.append((seen, within))
    torch.ops.pretended.watch(True)
    before = torch.ops.pretended.launches()
    try:
        yield seen
    finally:
        seen.launches += torch.ops.pretended.launches() - before
        _watchers.remove((seen, within))
        torch.ops.pretended.watch(bool(_watchers))
