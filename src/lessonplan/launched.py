"""What torchrun says to the processes that it starts; read without PyTorch."""

from __future__ import annotations

import os

from lessonplan.watch import leave_with


def started_together() -> int:
    """How many processes torchrun, or whoever speaks as it does, has started to train together."""
    told = os.environ.get("WORLD_SIZE", "1")
    together = told.isdigit() and "RANK" in os.environ and "MASTER_ADDR" in os.environ
    return int(told) if together else 1


def leave_with_torchrun() -> None:
    """End this process when the torchrun that started it is gone.

    Ranks that train notice that its store is gone. Those that import and read data do not, and would then look for
    it for minutes.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        leave_with(os.getppid())


def place_on_machine() -> tuple[int, int]:
    """This process' number among those on this machine, from 0, and how many these are."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return local, int(os.environ.get("LOCAL_WORLD_SIZE", local + 1))


def first_of_all() -> bool:
    """Whether this process is the one that speaks for all of them."""
    return started_together() == 1 or os.environ["RANK"] == "0"
