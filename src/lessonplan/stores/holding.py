"""A URL held by one process: an object with a heartbeat, as ``lessonplan.lease`` has files.

A holder's object is ``.lessonplan/lease-N``. It is made only where there is none, in one step where the store can
(S3 and MinIO; not all that speak S3), and read back a moment later. Where the store cannot, and of two that begin
together one is slower than that moment, both hold it until the next beat tells one of them. The holder writes its
object anew every ``BEAT_SECONDS``. Who finds the newest one untouched for ``MISSED_BEATS`` beats, by the store's
clock, makes ``.lessonplan/lease-(N+1)``.
"""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import suppress
from dataclasses import asdict

from lessonplan.errors import ConfigError, MachineError
from lessonplan.lease import MISSED_BEATS as MISSED_BEATS
from lessonplan.lease import Holder, is_alive, ourselves, read_holder
from lessonplan.stores.objects import Exists, Objects, StoreError

BEAT_SECONDS = 15.0
READ_BACK_SECONDS = 0.5
FOLDER = ".lessonplan"
_NAME = re.compile(FOLDER.replace(".", r"\.") + r"/lease-(\d{1,12})")

_let_go: set[str] = set()
"""Tokens of this process whose objects may still lie in a store that was away."""


class UrlHeld(ConfigError, MachineError):
    """Another process is at work in a URL."""

    def __init__(self, url: str, holder: Holder) -> None:
        super().__init__(
            f"another process is at work in {url} ({holder}): wait for it or end it, or give another URL"
        )


class Holding:
    """Hold a URL until ``release``; who dies holds it for a minute and a half more, on this machine not at all.

    Raises:
        UrlHeld: another process holds it. StoreError: nothing can be written there.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.lost = False
        self._holder = ourselves()
        self._content = json.dumps(asdict(self._holder)).encode()
        self._number = self._take()
        self._confirmed = time.time()
        self._over = threading.Event()
        self._checking = threading.Lock()
        self._beating = threading.Thread(target=self._beat, name=f"lease of {objects.url}", daemon=True)
        self._beating.start()

    def still(self) -> bool:
        """Whether the URL is still ours; asks the store where beats have paused, as in a laptop that slept.

        Raises:
            StoreError: nobody can tell.
        """
        if not self.lost and abs(time.time() - self._confirmed) > BEAT_SECONDS * (MISSED_BEATS - 2):
            self._confirm()
        return not self.lost

    def release(self, *, answers: bool) -> None:
        """Let it go; where the store does not answer it is free when the beats are missed."""
        self._over.set()
        _let_go.add(self._holder.token)
        if answers and not self.lost:
            self._beating.join(BEAT_SECONDS)
            with suppress(StoreError):
                self.objects.remove(_name(self._number))

    def _take(self) -> int:
        for _ in range(20):
            number = max(known := _numbers(self.objects), default=0)
            if number:
                holder = _look(self.objects, number)
                if holder is not None and holder.token == self._holder.token:
                    return number  # it had arrived, though the store did not say so
                if (
                    holder is not None
                    and holder.token not in _let_go
                    and is_alive(holder, _beats(self.objects, number))
                ):
                    raise UrlHeld(self.objects.url, holder)
            try:
                if not self.objects.create(_name(number + 1), self._content):
                    time.sleep(READ_BACK_SECONDS)
            except Exists:
                continue  # another one was quicker
            now = _numbers(self.objects)
            mine = _look(self.objects, number + 1)
            # What was taken over must lie there still: a holder that let go meanwhile freed the URL for all.
            if (
                mine is not None
                and mine.token == self._holder.token
                and max(now) == number + 1
                and known == now[:-1]
            ):
                for older in known:
                    self.objects.remove(_name(older))
                return number + 1
            if mine is not None and mine.token == self._holder.token:
                self.objects.remove(_name(number + 1))
        raise ConfigError(f"{self.objects.url} is wanted by many processes at once: give each a URL of its own")

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS) and not self.lost:
            with suppress(StoreError):  # the store may be away for a while, for others too
                self._confirm()

    def _confirm(self) -> None:
        with self._checking:
            numbers = _numbers(self.objects)
            holder = _look(self.objects, self._number)
            if holder is None or holder.token != self._holder.token or max(numbers) != self._number:
                self.lost = True
                return
            self.objects.write(_name(self._number), self._content)
            self._confirmed = time.time()


def at_work(objects: Objects) -> bool:
    """Whether a process holds the URL of these objects; nothing is written.

    Raises:
        StoreError: the store does not answer.
    """
    number = max(_numbers(objects), default=0)
    holder = _look(objects, number) if number else None
    return holder is not None and is_alive(holder, _beats(objects, number))


def _numbers(objects: Objects) -> list[int]:
    return sorted(int(found[1]) for name in objects.listing(FOLDER) if (found := _NAME.fullmatch(name)))


def _look(objects: Objects, number: int) -> Holder | None:
    """Who an object names; None where it has gone."""
    try:
        return read_holder(objects.read(_name(number)))
    except StoreError:
        if number in _numbers(objects):
            raise
        return None


def _beats(objects: Objects, number: int) -> float:
    """Beats that have passed since its holder wrote an object."""
    try:
        return objects.seconds_since(_name(number)) / BEAT_SECONDS
    except StoreError:
        if number in _numbers(objects):
            raise
        return float(MISSED_BEATS)


def _name(number: int) -> str:
    return f"{FOLDER}/lease-{number}"
