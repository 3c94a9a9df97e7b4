"""One process at a time in a folder: others are refused, or wait for their turn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        _let_go(handle)


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Wait until no other process is inside; where a folder or file system has no locks, all go in."""
    if os.name != "posix":
        yield
        return
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError:  # nothing can be written there, which is told of where it is tried
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        _let_go(handle)


def _let_go(handle: int) -> None:
    """Unlock by name: processes that read ahead may have the file open too, and closing it would not do."""
    import fcntl

    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)
