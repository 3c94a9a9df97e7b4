"""One process at a time in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lessonplan.errors import ConfigError


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold a folder while inside; the operating system lets go of it if the process is killed.

    Raises:
        ConfigError: another process holds it.
    """
    if os.name != "posix":  # elsewhere two processes in one folder are the user's own affair
        yield
        return
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process is at work in {folder}: wait for it or end it, or give another folder"
            ) from None
        yield
    finally:
        os.close(handle)
