"""The end of a process whose work is done, without taking Python and PyTorch apart."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process at once, behind what was registered for its end (``atexit``).

    To take PyTorch apart takes a second. In a rank it also fails now and then: threads of gloo outlive their
    process group (``DistributedDataParallel`` keeps it), and one that lets go of its last tensor while Python ends
    aborts the process (PyTorch's pull request 179291), so that torchrun would take what was trained for failed.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
