"""The objects below a URL: listed, fetched and sent whole, one sentence for what goes wrong."""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from lessonplan.errors import ConfigError, DataError, MachineError, first_line
from lessonplan.stores.address import protocol_of

_OURS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
"""Which extra of ours brings what a protocol needs."""
_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "tos"})
"""Stores that show an object only when all of it has arrived; elsewhere it is sent by another name and renamed."""
_ONE_STEP = frozenset({"memory"})
"""Where an object is surely made only if there is none, beside local files; servers that speak S3 may not care."""
_AT_ONCE = 32 * 2**20  # bytes that are sent as one piece
_IDENTITY = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)
_PART = ".part-"
_WAITS = (0.3, 1.0)  # seconds before another try
_REFUSED = ("accessdenied", "access denied", "forbidden", "403", "invalidaccesskey", "signaturedoesnotmatch")
_UNKNOWN = ("credentials", "default credentials", "token")
T = TypeVar("T")


class StoreError(DataError, MachineError):
    """An object store that does not answer, or refuses.

    Attributes:
        lasting: whether waiting will not mend it.
    """

    lasting = False


class StoreRefuses(StoreError):
    """An object store that answers no: a bucket that is not there, rights that are missing."""

    lasting = True


class Exists(Exception):
    """An object that was to be made is there."""


@dataclass(frozen=True)
class Found:
    """An object in a listing.

    Attributes:
        size: in bytes.
        token: tells its content from what it was before.
    """

    size: int
    token: str


class Objects:
    """What lies below a URL; names are relative to it, with slashes.

    Raises:
        ConfigError: the protocol is unknown, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.protocol = protocol_of(url)
        self._system = _file_system(self.url, self.protocol)
        self._root = str(self._system._strip_protocol(self.url)).rstrip("/")

    def listing(self, below: str = "") -> dict[str, Found]:
        """All objects, or those below a name, but for those that are on their way."""
        return self._do("list", lambda: self._listing(below))

    def read(self, name: str) -> bytes:
        """The content of an object; DataError if it is not there."""
        return self._do("read", lambda: bytes(self._system.cat_file(self._path(name))), name)

    def fetch(self, name: str, path: Path) -> None:
        """Write an object to a file, whose folder exists."""
        self._do("read", lambda: self._system.get_file(self._path(name), str(path)), name)

    def write(self, name: str, content: bytes) -> None:
        """Put an object in place of what is there."""
        self._do("write to", lambda: self._write(self._path(name), content))

    def send(self, path: Path, name: str) -> None:
        """As ``write``, for the content of a file that does not change any more."""
        if path.stat().st_size <= _AT_ONCE or self.protocol == "memory":
            self.write(name, path.read_bytes())
        elif self.protocol in _WHOLE:
            self._do("write to", lambda: self._system.put_file(str(path), self._path(name)))
        else:
            self._do("write to", lambda: self._by_another_name(
                self._path(name), lambda part: self._system.put_file(str(path), part)
            ))  # fmt: skip

    def create(self, name: str, content: bytes) -> bool:
        """Put an object where there is none; whether that was one step, so that of several who try one can.

        Raises:
            Exists: there is one.
        """
        return self._do("write to", lambda: self._create(self._path(name), content))

    def remove(self, name: str) -> None:
        """Take an object away, if it is there."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._system.rm_file(self._path(name))

        self._do("write to", remove)

    def seconds_since(self, name: str) -> float:
        """How old an object is, by the store's own clock: that of an object put there just now."""
        probe = f".lessonplan/clock-{uuid.uuid4().hex}"

        def age() -> float:
            self._write(self._path(probe), b"")
            try:
                then, now = (self._modified(self._path(each)) for each in (name, probe))
                return (now - then).total_seconds()
            finally:
                with suppress(Exception):
                    self._system.rm_file(self._path(probe))

        return self._do("write to", age)

    def remove_parts(self) -> None:
        """Take away what killed processes left on its way."""
        if self.protocol in _WHOLE or self.protocol == "memory":
            return
        for path in self._do("list", lambda: list(self._all())):
            if path.rpartition("/")[2].startswith(_PART):
                with suppress(Exception):
                    self._system.rm_file(path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _all(self, below: str = "") -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._system.find(self._path(below).rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        return found

    def _listing(self, below: str) -> dict[str, Found]:
        found = {}
        for path, info in self._all(below).items():
            name = path[len(self._root) + 1 :]
            if name and not name.rpartition("/")[2].startswith(_PART) and not name.endswith("/"):
                found[name] = Found(int(info.get("size") or 0), _token(info))
        return found

    def _write(self, path: str, content: bytes) -> None:
        if self.protocol in _WHOLE or self.protocol == "memory":
            self._system.pipe_file(path, content)
        else:
            self._by_another_name(path, lambda part: self._system.pipe_file(part, content))

    def _by_another_name(self, path: str, write: Callable[[str], Any]) -> None:
        folder = path.rpartition("/")[0]
        part = f"{folder}/{_PART}{uuid.uuid4().hex}"
        self._system.makedirs(folder, exist_ok=True)
        try:
            write(part)
            self._system.mv(part, path)
        except BaseException:
            with suppress(Exception):
                self._system.rm_file(part)
            raise

    def _create(self, path: str, content: bytes) -> bool:
        try:
            if self.protocol in ("file", "local"):
                self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
                with self._system.open(path, "xb") as file:
                    file.write(content)
                return True
            return self._create_in_store(path, content)
        except FileExistsError:
            raise Exists(path) from None

    def _create_in_store(self, path: str, content: bytes) -> bool:
        try:
            self._system.pipe_file(path, content, mode="create")
            return self.protocol in _ONE_STEP
        except FileExistsError:
            raise
        except Exception as error:
            said = f"{type(error).__name__} {error}".lower()
            if "precondition" in said or "conditionalrequestconflict" in said or "412" in said:
                raise FileExistsError(path) from None
            if not isinstance(error, (NotImplementedError, TypeError)) and "notimplemented" not in said:
                raise
            if self._system.exists(path):  # a store without conditions
                raise FileExistsError(path) from None
            self._system.pipe_file(path, content)
            return False

    def _modified(self, path: str) -> datetime:
        found: datetime = self._system.modified(path)
        return found

    def _do(self, doing: str, work: Callable[[], T], name: str | None = None) -> T:
        for wait in (*_WAITS, None):
            try:
                self._system.invalidate_cache()  # others write there too
                return work()
            except Exists:
                raise
            except Exception as error:
                said = self._said(doing, error, name)
                if wait is None or said.lasting:
                    raise said from error
            time.sleep(wait)
        raise AssertionError  # the last try returns or raises

    def _said(self, doing: str, error: Exception, name: str | None) -> StoreError:
        """One sentence for what a file system's library raised."""
        said, why = f"{type(error).__name__} {error}".lower(), first_line(error)
        if isinstance(error, FileNotFoundError) or "nosuchbucket" in said:
            if name is not None:
                return StoreRefuses(f"{self.url}/{name} is not there: run again, or give another URL")
            return StoreRefuses(f"the bucket or folder of {self.url} is not there: make it, or give another URL")
        if isinstance(error, PermissionError) or any(word in said for word in _REFUSED):
            return StoreRefuses(f"no right to {doing} {self.url} ({why}): give other credentials, or another URL")
        if any(word in said for word in _UNKNOWN):
            return StoreRefuses(
                f"no credentials for {self.url} ({why}): docs/many_machines.md says where they are put"
            )
        return StoreError(f"{self.url} could not be reached ({why}): see whether the store answers, and run again")


def _token(info: dict[str, Any]) -> str:
    known = next((str(info[key]) for key in _IDENTITY if info.get(key) is not None), "")
    return f"{known} {info.get('ino', '')}".strip()


def _file_system(url: str, protocol: str) -> Any:
    """The file system of a URL, configured as fsspec is."""
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError:
        raise ConfigError(f"{url}: fsspec is not installed: pip install 'lessonplan[fsspec]'") from None
    if protocol not in {*fsspec.available_protocols(), *fsspec.registry}:
        raise ConfigError(
            f"{url}: fsspec knows no {protocol}://: give s3://, gs://, az://, file:// or another that it knows"
        )
    try:
        try:
            system, _ = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except TypeError:  # one that lists anew anyway
            system, _ = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = _OURS.get(protocol)
        install = f"pip install 'lessonplan[{extra}]'" if extra else first_line(error)
        raise ConfigError(f"{url}: what fsspec opens {protocol}:// with is not installed: {install}") from None
    except Exception as error:
        raise ConfigError(f"{url} cannot be opened ({first_line(error)}): see fsspec's configuration") from None
    return system
