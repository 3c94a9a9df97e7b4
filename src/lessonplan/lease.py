"""A folder held by one process of one of several machines: files with a heartbeat, no locks of a file system.

A holder's file is ``.lease-N``, made with ``O_EXCL``, which one process alone can do on local disks and on NFS
(version 3 or later). The holder touches it every ``BEAT_SECONDS``. Who finds the highest one untouched for
``MISSED_BEATS`` beats makes ``.lease-(N+1)``: of several that try, one can. Ages are told by the file system's own
clock (that of a file made there just now), so the machines' clocks may differ.
"""

from __future__ import annotations

import _thread
import functools
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from lessonplan.errors import ConfigError, MachineError

BEAT_SECONDS = 10.0
MISSED_BEATS = 6
_NAME = re.compile(r"\.lease-(\d{1,12})")


class FolderHeld(ConfigError, MachineError):
    """Another process is at work in a folder."""

    def __init__(self, folder: Path, holder: Holder | None) -> None:
        by = f" ({holder})" if holder is not None else ""
        super().__init__(
            f"another process is at work in {folder}{by}: wait for it or end it, or give another folder"
        )
        self.folder = folder


@dataclass(frozen=True)
class Holder:
    """Who holds a folder, as its file says.

    Attributes:
        host: the machine's name.
        pid: the process there.
        place: tells processes of this machine, boot and process namespace from others.
        started: when the process began, in seconds since 1970; tells it from a later one with its number.
        since: when it took the folder, by its machine's clock.
        token: tells this lease from every other.
    """

    host: str = "another machine"
    pid: int = 0
    place: str = ""
    started: float = 0.0
    since: float = 0.0
    token: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else self.host


class Lease:
    """Hold a folder until ``release``; one who dies holds it for a minute more, on this machine not at all.

    Args:
        folder: it must exist.

    Raises:
        FolderHeld: another process holds it. OSError: nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lost = False
        self._holder = ourselves()
        self._path = self._take()
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name=f"lease of {folder}", daemon=True)
        self._beating.start()

    def release(self) -> None:
        """Let the folder go; in a forked process nothing."""
        if self._holder.pid != os.getpid():
            return
        self._over.set()
        self._beating.join()
        if not self.lost:
            with suppress(OSError):
                self._path.unlink()

    def _take(self) -> Path:
        for _ in range(100):
            number, holder, beats = highest_lease(self.folder)
            if holder is not None and is_alive(holder, beats):
                raise FolderHeld(self.folder, holder)
            mine = self.folder / f".lease-{number + 1}"
            if not self._make(mine):
                continue  # another one was quicker
            known = _numbers(self.folder)
            # What was taken over must lie there still: a holder that let go meanwhile freed the folder for all.
            if max(known) == number + 1 and (number in known or number == 0):
                for older in known[:-1]:
                    with suppress(OSError):
                        (self.folder / f".lease-{older}").unlink()
                return mine
            mine.unlink(missing_ok=True)
        raise ConfigError(f"{self.folder} is wanted by many processes at once: give each a folder of its own")

    def _make(self, path: Path) -> bool:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(asdict(self._holder), file)
        except OSError:  # a full disk
            path.unlink(missing_ok=True)
            raise
        return True

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                with self._path.open("rb") as file:
                    ours = json.loads(file.read(4096)).get("token") == self._holder.token
                    if ours and max(_numbers(self.folder), default=0) == _number(self._path):
                        os.utime(file.fileno() if os.utime in os.supports_fd else self._path)
                        continue
            except FileNotFoundError:
                pass
            except (OSError, ValueError):
                continue  # the file server may be away for a while: nobody else can take the folder meanwhile
            self.lost = True
            _interrupt()  # two in a folder spoil it; what was saved is whole
            return


def _interrupt() -> None:
    """Ctrl-C for the main thread, which wakes it where it waits.

    A shell script starts what it leaves in the background with Ctrl-C ignored; SIGTERM does the same where we
    handle it, and where nobody handles anything the process ends here.
    """
    if not hasattr(signal, "pthread_kill"):
        _thread.interrupt_main()
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(signal.getsignal(number)):
            signal.pthread_kill(threading.main_thread().ident or 0, number)
            return
    print("lessonplan: another process took the folder of this one, which ends", file=sys.stderr, flush=True)
    os._exit(1)


def highest_lease(folder: Path) -> tuple[int, Holder | None, float]:
    """The number of a folder's newest lease, its holder, and how many beats ago it was touched.

    0, None and 0 where there is none.
    """
    number = max(_numbers(folder), default=0)
    if not number:
        return 0, None, 0.0
    path = folder / f".lease-{number}"
    try:
        with path.open("rb") as file:  # NFS asks its server anew when a file is opened
            content, touched = file.read(4096), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return highest_lease(folder)
    return number, read_holder(content), (_now(folder) - touched) / BEAT_SECONDS


def holder_of(folder: Path) -> Holder | None:
    """Who holds a folder and is alive, or None; for a look, from any machine."""
    try:
        _, holder, beats = highest_lease(folder)
    except OSError:
        return None
    return holder if holder is not None and is_alive(holder, beats) else None


def wait_for_the_dead(folder: Path) -> None:
    """Wait while a folder's holder may have died with its machine: until it lets go, beats, or is dead."""
    first, began = holder_of(folder), time.monotonic()
    if first is None:
        return
    beats = highest_lease(folder)[2]
    while (holder := holder_of(folder)) is not None and holder.token == first.token:
        now = highest_lease(folder)[2]
        if now < beats or time.monotonic() - began > BEAT_SECONDS * (MISSED_BEATS + 2):
            return  # it lives
        beats = now
        time.sleep(min(1.0, BEAT_SECONDS / 4))


def is_alive(holder: Holder, beats: float) -> bool:
    """Whether a holder is: by its process on this machine, elsewhere by how many beats ago it was heard of."""
    if holder.place and holder.place == _place():
        try:
            process = psutil.Process(holder.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if abs(process.create_time() - holder.started) < 1:
                return True
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            pass
    # Of another machine; or a later process has the number, or the clock was set: the beats decide.
    return beats < MISSED_BEATS


def ourselves() -> Holder:
    """This process as a holder, with a token of its own."""
    started = psutil.Process().create_time()
    return Holder(socket.gethostname(), os.getpid(), _place(), started, time.time(), uuid.uuid4().hex)


@functools.cache
def _place() -> str:
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def read_holder(content: bytes) -> Holder:
    """What a file says; one that is being written says nothing yet, and is judged by its age alone."""
    try:
        found = json.loads(content)
        return Holder(**{name: type(value)(found[name]) for name, value in asdict(Holder()).items()})
    except (ValueError, KeyError, TypeError):
        return Holder()


def _numbers(folder: Path) -> list[int]:
    with os.scandir(folder) as entries:
        return sorted(int(found[1]) for entry in entries if (found := _NAME.fullmatch(entry.name)))


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def _now(folder: Path) -> float:
    """The time by the file system's clock; by this machine's where nothing can be written."""
    probe = folder / f".lease-clock-{uuid.uuid4().hex}"
    try:
        with probe.open("x") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()
