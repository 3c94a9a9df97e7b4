"""The local copy of what a URL holds, and what of it has been fetched and sent."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from lessonplan.files import disk_error, write_json
from lessonplan.stores.objects import Found, Objects, StoreError

_AT_ONCE = 8  # objects that are fetched at a time
_MARK = ".copy"
_OF_A_CLUSTER = "slurm"  # scripts, logs and pickles of this one
Stamp = list[int]
"""What tells a file from what it was: modification time in nanoseconds, and size."""
_Known = tuple[Stamp | None, str | None]


def _known(stamp: Any, token: Any) -> _Known:
    """An entry of the record, as it was read.

    Raises:
        TypeError: it is none. ValueError: the stamp has not two numbers.
    """
    if stamp is not None:
        time, size = stamp
        stamp = [int(time), int(size)]
    if not (token is None or isinstance(token, str)):
        raise TypeError(token)
    return stamp, token


class Copy:
    """A folder of this machine, and a record of which of its files are as the store has them.

    The record says of each name that was fetched or sent the file's stamp and the object's token; the latter is
    None where it was sent and the store has not been asked since. A name is in the record before it is sent: what
    is in it and not in the folder was deleted here.

    Args:
        home: the URL's folder on this machine, see ``address.home_of``.
        kind: ``"work"``, or ``"read"`` for a copy that nothing is sent of.

    Attributes:
        folder: the copy itself.
        name: tells this copy from others, on other machines too.
    """

    def __init__(self, home: Path, kind: str) -> None:
        self.folder = home / kind
        self._file = home / f"{kind}.json"
        self._coming = home / "coming"
        self.name, self.files = self._told()

    def _told(self) -> tuple[str, dict[str, _Known]]:
        """The record, or an empty one where it is damaged or the folder that it is about is gone."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            told: dict[str, Any] = json.loads(self._file.read_bytes())
            if (self.folder / _MARK).read_text() == told["copy"]:
                return told["copy"], {str(name): _known(*entry) for name, entry in told["files"].items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = uuid.uuid4().hex
            (self.folder / _MARK).write_text(name)
        except OSError as error:
            raise disk_error(self.folder, error) from error
        return name, {}

    def store(self) -> None:
        """Keep the record."""
        write_json(self._file, {"copy": self.name, "files": {n: list(known) for n, known in self.files.items()}})

    @property
    def whole(self) -> bool:
        """Whether the folder is still the one that the record is about: somebody may clear a cache."""
        try:
            return (self.folder / _MARK).read_text() == self.name
        except OSError:
            return False

    def walk(self) -> dict[str, Stamp]:
        """The files that belong to the store, by name: temporary files, locks and leases stay here."""
        return dict(_below(str(self.folder), ""))

    def stamp(self, name: str) -> Stamp | None:
        """Of a file, or None where there is none."""
        try:
            status = os.stat(self.folder / name)
        except OSError:
            return None
        return [status.st_mtime_ns, status.st_size]

    def fetch(self, objects: Objects, wanted: dict[str, Found], each: Callable[[], None]) -> None:
        """Write objects over the copy's files, each of them whole; ``each`` is called after one.

        Raises:
            StoreError: one could not be had. DataError: the disk does not take it.
        """
        self._coming.mkdir(parents=True, exist_ok=True)

        def bring(item: tuple[str, Found]) -> tuple[str, Found]:
            name, found = item
            part, path = self._coming / uuid.uuid4().hex, self.folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                objects.fetch(name, part)
                size = part.stat().st_size
                if size != found.size:
                    raise StoreError(f"{objects.url}/{name} came with {size} of {found.size} bytes: run again")
                part.replace(path)
            except OSError as error:
                raise disk_error(path, error) from error
            finally:
                part.unlink(missing_ok=True)
            return item

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                for name, found in pool.map(bring, wanted.items()):
                    self.files[name] = (self.stamp(name), found.token)
                    each()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                self.store()

    def drop(self, names: Iterable[str]) -> None:
        """Delete files of the copy that the store has no more."""
        for name in names:
            with suppress(FileNotFoundError):
                (self.folder / name).unlink()
            self.files.pop(name, None)
            with suppress(OSError):  # an empty folder says nothing
                (self.folder / name).parent.rmdir()

    def set_aside(self) -> Path:
        """Move the copy away and begin an empty one; where it is now."""
        aside = self.folder.with_name(f"{self.folder.name}-aside-{uuid.uuid4().hex[:8]}")
        self.folder.rename(aside)
        self.__init__(self.folder.parent, self.folder.name)  # type: ignore[misc]
        return aside


def mark_of(path: Path) -> Path | None:
    """The file that marks the copy of a URL in which a path lies; None where it lies in none."""
    marks = (folder / _MARK for folder in (path, *path.parents))
    return next((mark for mark in marks if mark.is_file()), None)


def is_private(name: str) -> bool:
    """Whether a name is none of the store's business, the store's own, or no name of a file below a folder."""
    if name == _OF_A_CLUSTER or name.startswith(f"{_OF_A_CLUSTER}/"):
        return True
    return any(not part or part.startswith(".") or "\\" in part or ":" in part for part in name.split("/"))


def _below(folder: str, prefix: str) -> Iterator[tuple[str, Stamp]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_private(f"{prefix}{entry.name}"):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        yield from _below(entry.path, f"{prefix}{entry.name}/")
                    elif entry.is_file():
                        status = entry.stat()
                        yield f"{prefix}{entry.name}", [status.st_mtime_ns, status.st_size]
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return
