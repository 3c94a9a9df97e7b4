"""A process that works for another one leaves with it."""

from __future__ import annotations

import os
import threading
import time

_SECONDS = 0.2


def leave_with(parent: int) -> None:
    """End this process, from a thread beside its work, when its parent is gone, however that went.

    Args:
        parent: the process that started this one. It may be gone already, so it is told and not asked for.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
