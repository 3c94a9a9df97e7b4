"""Rates and memory in words, as progress lines say them."""

from __future__ import annotations

import contextlib
import sys


def per_time(speed: float, unit: str) -> str:
    """A rate in words.

    >>> per_time(1234.5, "samples"), per_time(0.05, "runs"), per_time(2.25, "")
    ('1,234 samples/s', '3.0 runs/min', '2.2/s')
    """
    unit = f" {unit}" if unit else ""
    if speed < 1:
        return f"{60 * speed:.1f}{unit}/min"
    return f"{speed:,.0f}{unit}/s" if speed >= 10 else f"{speed:.1f}{unit}/s"


def memory_text() -> str:
    """Memory in use now, in words: of this process with those that it started, and of an accelerator."""
    import psutil

    used = 0
    with contextlib.suppress(psutil.Error):
        here = psutil.Process()
        for process in (here, *here.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # one that ends meanwhile
                used += process.memory_info().rss
    text = f"{used / 2**30:.1f} GiB"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        text += f" + {torch.cuda.memory_allocated() / 2**30:.1f} GiB on the device"
    return text
