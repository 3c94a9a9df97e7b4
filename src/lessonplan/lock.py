"""One process at a time in a folder: others are refused, or wait for their turn."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lessonplan.errors import RunFailed
from lessonplan.files import disk_error, remove_leftovers
from lessonplan.lease import BEAT_SECONDS, MISSED_BEATS, FolderHeld, Lease, holder_of

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)

_held: set[int] = set()
"""Files that this process holds locks by."""


def _forget_in_child() -> None:
    """A forked process, which reads ahead, must not keep a folder when its parent was killed."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Hold a folder while inside, against processes of this machine and of others that share it.

    The operating system's lock is let go of when the process is killed. Shared folders may know none, or keep it
    to one machine: a lease (``lessonplan.lease``) holds there, for a minute after its machine died. What killed
    processes left half written in the folder itself is removed.

    Raises:
        FolderHeld: another process holds it. DataError: nothing can be written there.
        RunFailed: this process stood still for so long that another one took the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _locked(folder)
        try:
            lease = Lease(folder)
        except BaseException:
            _let_go(handle)
            raise
    except OSError as error:
        raise disk_error(folder, error) from error
    try:
        remove_leftovers(folder)
        yield
    except KeyboardInterrupt:
        if not lease.lost:
            raise
        raise RunFailed(
            f"another process took {folder} while this one did not answer for"
            f" {BEAT_SECONDS * MISSED_BEATS:.0f} seconds: the folder is its own now, and this one ends"
        ) from None
    finally:
        lease.release()
        _let_go(handle)


def _locked(folder: Path) -> int | None:
    """A file of the folder, locked against this machine's other processes; None where there are no locks."""
    if os.name != "posix":
        return None
    import fcntl

    handle = _open(folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _let_go(handle)
        raise FolderHeld(folder, holder_of(folder)) from None
    except OSError as error:
        _let_go(handle)
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return handle


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Wait until no other process is inside; where a folder or file system has no locks, all go in."""
    if os.name != "posix":
        yield
        return
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _open(folder)
    except OSError:  # nothing can be written there, which is told of where it is tried
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        _let_go(handle)


def _open(folder: Path) -> int:
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    _held.add(handle)
    return handle


def _let_go(handle: int | None) -> None:
    """Unlock by name: processes that read ahead may have the file open too, and closing it would not do."""
    if handle is None or handle not in _held:  # of the process that this one was forked from
        return
    import fcntl

    _held.discard(handle)
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)
