"""A rank that is gone is noticed by the others, wherever they wait for it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from lessonplan.errors import RunFailed, first_line

_SECONDS = 0.5
_SILENT = 15.0  # seconds without a sign of life, after which a rank that cannot be looked at counts as gone
NOTICED = _SILENT + 2 * _SECONDS  # seconds after which any lost rank has been noticed
_GRACE = 5.0  # seconds that a rank has to end in good order once another one is gone
FAILED = 1


class RankLost(RunFailed):
    """Another rank ended while this one still needed it."""


@dataclass(frozen=True)
class Place:
    """Where a rank runs.

    Attributes:
        host: name of the machine.
        space: of its process numbers, which containers have of their own.
        process: number of the process.
        born: when it began, which tells it from a later one of the same number.
    """

    host: str
    space: str
    process: int
    born: float

    @classmethod
    def here(cls) -> Place:
        """This process."""
        space = ""
        with contextlib.suppress(OSError):
            space = os.readlink("/proc/self/ns/pid")
        return cls(socket.gethostname(), space, os.getpid(), psutil.Process().create_time())

    def state_dict(self) -> dict[str, Any]:
        """As primitives."""
        return asdict(self)

    def sees(self, other: Place) -> bool:
        """Whether the other one's process can be looked at from here."""
        return (self.host, self.space) == (other.host, other.space)

    def is_gone(self) -> bool:
        """Whether its process has ended, or is one that nobody has buried yet."""
        try:
            process = psutil.Process(self.process)
            return process.create_time() != self.born or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


class Watch:
    """Looks for ranks that are gone, from a thread beside the work.

    On one machine it looks at the processes, for ranks elsewhere (and for those that hang) at the signs of life
    that every rank leaves in the group's store. The work is waiting for the lost rank, perhaps where nothing
    interrupts it: if it has not ended by itself some seconds later, this process ends with a sentence.

    Args:
        store: of the process group; the watch works with a connection of its own.
        rank: this one.
        places: of all ranks.
        key: under which they leave signs of life, the same on all ranks.
    """

    def __init__(self, store: Any, rank: int, places: list[Place], key: str) -> None:
        self._store, self._rank, self._places, self._key = store.clone(), rank, places, key
        self._heard = {other: (b"", time.monotonic()) for other in range(len(places)) if other != rank}
        self._here = places[rank]
        self._done = threading.Event()
        self._lost = threading.Event()
        self.sentence = ""
        self._thread = threading.Thread(target=self._run, daemon=True, name="lessonplan-ranks")
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._done.set()
        self._thread.join(_GRACE)

    def say_last(self, error: BaseException) -> None:
        """Leave word of why this rank ends."""
        with contextlib.suppress(Exception):
            self._store.set(f"{self._key}/last/{self._rank}", first_line(str(error) or type(error).__name__))

    def lost(self, seconds: float = 0.0) -> RankLost | None:
        """What to raise if a rank is gone, or None if none is within so many seconds."""
        if not self._lost.wait(seconds):
            return None
        return RankLost(self.sentence)

    def _run(self) -> None:
        number = 0
        while not self._done.wait(_SECONDS):
            number += 1
            sentence = self._look(number)
            if sentence is not None:
                self.sentence = sentence
                self._lost.set()
                if not self._done.wait(_GRACE):
                    print(f"lessonplan: rank {self._rank}: {sentence}", file=sys.stderr, flush=True)
                    os._exit(FAILED)
                return

    def _look(self, number: int) -> str | None:
        """Leave a sign of life, and say who is gone."""
        gone = self._gone_here()
        try:
            self._store.set(f"{self._key}/alive/{self._rank}", str(number))
            for other, (heard, when) in self._heard.items():
                if self._store.check([f"{self._key}/last/{other}"]):
                    gone.append(other)
                key = f"{self._key}/alive/{other}"
                said = self._store.get(key) if self._store.check([key]) else b""
                if said != heard:
                    self._heard[other] = (said, time.monotonic())
                elif time.monotonic() - when > _SILENT:
                    gone.append(other)
        except Exception:  # whoever holds the store is gone: the first rank, unless torchrun holds it
            time.sleep(_SECONDS)
            gone = self._gone_here()
            if not gone and (self._rank == 0 or self._here.sees(self._places[0])):
                return "torchrun's store is gone, so that the ranks cannot find one another any more"
            gone = gone or [0]
        return self._sentence(gone[0]) if gone else None

    def _gone_here(self) -> list[int]:
        """Those whose processes can be looked at and are gone."""
        return [r for r in self._heard if self._here.sees(self._places[r]) and self._places[r].is_gone()]

    def _sentence(self, rank: int) -> str:
        place, why = self._places[rank], ""
        with contextlib.suppress(Exception):
            if self._store.check([f"{self._key}/last/{rank}"]):
                why = f" ({self._store.get(f'{self._key}/last/{rank}').decode()})"
        return (
            f"rank {rank} of {len(self._places)} (process {place.process} on {place.host}) has ended or hangs"
            f"{why}, and the others end with it: start all of them again with the same command to go on from the"
            " last checkpoint"
        )
