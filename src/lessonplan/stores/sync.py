"""A copy and its URL are made the same: fetched at the beginning, sent in rounds while work goes on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from lessonplan.errors import ConfigError, DataError, LessonplanWarning
from lessonplan.progress import Line
from lessonplan.stores.copy import Copy, Stamp, is_private
from lessonplan.stores.holding import FOLDER
from lessonplan.stores.objects import Found, Objects
from lessonplan.stores.turns import Turn, turn_of
from lessonplan.version import __version__

WRITER = f"{FOLDER}/writer"


def copy_named(content: bytes) -> str | None:
    """Which copy was the last to send, by the content of ``WRITER``; None where that is damaged."""
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(content)["copy"])
    return None


"""Names the copy that sent what is in the store: no other has changed it since, but for folders in it."""
_MARKS = (
    "config.yaml",
    "results.json",
    "evaluation.json",
    "overview.json",
    "ordering.json",
    "tune.json",
    "advice.json",
    "lr.json",
    "data.json",
)
_NAMED = 3
_NEEDED_BY = {
    Turn.RESULT: {Turn.OTHER},
    Turn.TABLE: {Turn.OTHER, Turn.RESULT},
    Turn.PAGE: {Turn.OTHER, Turn.RESULT, Turn.TABLE},
    Turn.OLD_CHECKPOINT: {Turn.CHECKPOINT},
}
"""Of which earlier turns nothing may be missing for a later one."""
_ANSWER_SECONDS = 180.0
_SLOWEST = 50_000  # bytes a second of a line that still counts as one
_PATIENCE = 20  # times what sending a growing file took passes before it is sent again


def check_ours(url: str, names: Collection[str]) -> None:
    """Refuse a URL that holds something, and nothing of ours.

    Raises:
        ConfigError: it does.
    """
    there = sorted(name for name in names if not is_private(name))
    if there and not any(name in _MARKS or name == WRITER for name in names):
        raise ConfigError(
            f"{url} holds {len(there)} objects and nothing of a run or comparison ({', '.join(there[:_NAMED])}):"
            " give a folder of its own"
        )


class Sync:
    """What has to be fetched and sent; the URL is held by whoever makes one.

    Args:
        objects: of the URL.
        copy: of this machine.
        spared: says of names in the store that they are not needed here.

    Attributes:
        stopped: whether nothing more is to be sent.
        due: when, by the monotonic clock, what is being sent should have arrived; None between objects.
    """

    def __init__(self, objects: Objects, copy: Copy, spared: Callable[[str, dict[str, Found]], bool]) -> None:
        self.objects, self.copy = objects, copy
        self._spared = spared
        self.stopped = False
        self.due: float | None = None
        self._took: dict[
            str, tuple[float, float]
        ] = {}  # of a growing file: when it was sent, and how long that took

    # -- at the beginning ----------------------------------------------------------------------------

    def fetch(self) -> None:
        """Make the copy what the store holds, but for what it has of its own that was not sent yet.

        Where another copy has sent something since, and this one has unsent work, the latter is set aside.

        Raises:
            StoreError: something could not be fetched.
        """
        there = self.objects.listing()
        last = self._last_writer(there)
        there = {n: found for n, found in there.items() if not is_private(n) and not self._spared(n, there)}
        wanted, gone, conflict = self._compare(there, last == self.copy.name)
        if conflict:
            aside = self.copy.set_aside()
            warnings.warn(
                f"{self.objects.url} was changed from another machine while this one had work that was not sent"
                f" ({conflict[0]}): that work is in {aside} now, and what the URL holds goes on here",
                LessonplanWarning,
                stacklevel=5,
            )
            wanted, gone = there, []
        self.copy.drop(gone)
        if wanted:
            with Line(f"fetching {self.objects.url}", total=len(wanted), unit="files") as line:
                self.copy.fetch(self.objects, wanted, lambda: line.update(advance=1))
        self.copy.store()
        told = {"copy": self.copy.name, "host": socket.gethostname(), "version": __version__}
        self.objects.write(WRITER, json.dumps(told).encode())

    def _last_writer(self, there: dict[str, Found]) -> str | None:
        if WRITER not in there:
            return None
        return copy_named(self.objects.read(WRITER))

    def _compare(self, there: dict[str, Found], mine: bool) -> tuple[dict[str, Found], list[str], list[str]]:
        """What is to be fetched and dropped, and where both sides have changed.

        Args:
            there: the store's files.
            mine: whether this copy was the last one to send.
        """
        here, known = self.copy.walk(), self.copy.files
        wanted: dict[str, Found] = {}
        gone: list[str] = []
        conflict: list[str] = []
        sent_since: list[str] = []
        unsent: list[str] = []
        for name in sorted({*there, *here, *known}):
            stamp, token = known.get(name, (None, None))
            object_now = there.get(name)
            changed_here = here.get(name) != stamp
            if name not in known:
                changed_there = object_now is not None
            elif (
                token is None
            ):  # sent, and the store was not asked since: what it has is of this copy if no other wrote
                changed_there = not mine
            else:
                changed_there = object_now is None or object_now.token != token
            if changed_there and changed_here and mine and (name in here or name in known):
                changed_there = (
                    False  # sent or deleted, and this process's predecessor was killed before it noted that
                )
            unsent += [name] if changed_here and name in here else []
            if not changed_there:
                continue
            sent_since.append(name)
            if object_now is not None:
                wanted[name] = object_now
            elif not changed_here:
                gone.append(name)
        if not mine and sent_since and unsent:
            conflict = unsent
        return wanted, gone, conflict

    # -- while work goes on --------------------------------------------------------------------------

    def send(self, *, all_of_it: bool = False) -> int:
        """Send what has changed since the last round, in its turns; how many files that were.

        What comes later in the order is read first: so a result that was read names weights that were there when
        they are read. A file that has changed since it was listed waits for the next round.

        Args:
            all_of_it: also what grows and was sent only just.

        Raises:
            StoreError: the store does not answer; what was sent is noted. DataError: the copy is gone.
        """
        tables = self._changed(lambda turn: turn >= Turn.TABLE)
        results = self._changed(lambda turn: turn == Turn.RESULT)
        rest = self._changed(lambda turn: Turn.GROWING < turn < Turn.RESULT)
        rest |= self._changed(lambda turn: turn <= Turn.GROWING)
        if not self.copy.whole:
            raise DataError(f"{self.copy.folder} was deleted, and nothing more is sent to {self.objects.url}")
        changed = {**rest, **results, **tables}
        gone = [name for name in self.copy.files if self.copy.stamp(name) is None]
        gone += self._outlived(changed)
        if not all_of_it:
            changed = {n: s for n, s in changed.items() if not self._waits(n, changed)}
        if not changed and not gone:
            return 0
        for name in changed:  # noted before: what is noted and not there any more was deleted
            self.copy.files.setdefault(name, (None, None))
        self.copy.store()
        turns: list[tuple[Turn, int, str]] = [(turn_of(n), s[0], n) for n, s in changed.items()]
        for name in gone:
            old = turn_of(name) is Turn.CHECKPOINT
            turns.append((Turn.OLD_CHECKPOINT if old else Turn.GONE, 0, name))
        late: set[Turn] = set()
        try:
            for turn, _, name in sorted(turns):
                if self.stopped:
                    break
                if turn > Turn.OTHER and not late.isdisjoint(_NEEDED_BY[turn]):
                    continue
                if turn in (Turn.GONE, Turn.OLD_CHECKPOINT):
                    self.objects.remove(name)
                    del self.copy.files[name]
                elif not self._send(name, changed[name], turn):
                    late.add(turn)
        finally:
            with suppress(DataError):
                self.copy.store()
        return len(turns)

    def _outlived(self, changed: Iterable[str]) -> list[str]:
        """Results in the store whose run has gone on since, and perhaps ended again: they go first."""
        folders = {PurePosixPath(n).parent for n in changed if turn_of(n) in (Turn.BEGUN, Turn.OTHER)}
        results = [str(folder / "result.json") for folder in sorted(folders)]
        known = [(name, self.copy.files[name][0]) for name in results if name in self.copy.files]
        return [name for name, stamp in known if self.copy.stamp(name) not in (None, stamp)]

    def confirm(self) -> int:
        """Ask the store what it has, at the end of all rounds; how many files have to be sent again."""
        there = self.objects.listing()
        again = 0
        for name, (stamp, token) in list(self.copy.files.items()):
            found = there.get(name)
            if stamp is None or (found is not None and token == found.token):
                continue
            if found is None or found.size != stamp[1]:
                self.copy.files[name] = (None, None)
                again += 1
            else:
                self.copy.files[name] = (stamp, found.token)
        self.copy.store()
        return again

    def unsent(self) -> list[str]:
        """Names of files that the store does not have as they are here."""
        return sorted(self._changed(lambda turn: True))

    def _changed(self, chosen: Callable[[Turn], bool]) -> dict[str, Stamp]:
        known = self.copy.files
        return {
            name: stamp
            for name, stamp in self.copy.walk().items()
            if known.get(name, (None, None))[0] != stamp and chosen(turn_of(name))
        }

    def _waits(self, name: str, changed: dict[str, Stamp]) -> bool:
        """Whether a growing file was sent only just, and nothing that needs its lines is to be sent."""
        if turn_of(name) is not Turn.GROWING or name not in self._took:
            return False
        when, seconds = self._took[name]
        if time.monotonic() - when > _PATIENCE * seconds:
            return False
        beside = str(PurePosixPath(name).parent)
        prefix = "" if beside == "." else f"{beside}/"
        return not any(n.startswith(prefix) and turn_of(n) is not Turn.GROWING for n in changed)

    def _send(self, name: str, stamp: Stamp, turn: Turn) -> bool:
        """Send a file as it was listed, one that grows as it is; whether it could be."""
        path = self.copy.folder / name
        grows = turn is Turn.GROWING
        if not grows and self.copy.stamp(name) != stamp:
            return False
        began = time.monotonic()
        # By another name it stays as it is while it is sent, whatever becomes of this one.
        waiting = self.copy.folder.parent / "sending" / uuid.uuid4().hex
        try:
            waiting.parent.mkdir(exist_ok=True)
            _hold(path, waiting, grows)
            now = self.copy.stamp(name)
            if now is None or (not grows and now != stamp):
                return False
            if grows:
                stamp = [stamp[0], waiting.stat().st_size]
            self.due = time.monotonic() + _ANSWER_SECONDS + waiting.stat().st_size / _SLOWEST
            self.objects.send(waiting, name)
        except FileNotFoundError:
            return False
        finally:
            self.due = None
            waiting.unlink(missing_ok=True)
        self.copy.files[name] = (stamp, None)
        if grows:
            self._took[name] = (time.monotonic(), time.monotonic() - began)
        return True


def _hold(path: Path, waiting: Path, grows: bool) -> None:
    """Keep what is in a file now under another name."""
    if not grows:
        with suppress(OSError):
            os.link(path, waiting)
            return
    shutil.copyfile(path, waiting)
