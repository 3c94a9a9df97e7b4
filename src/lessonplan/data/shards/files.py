"""Files that are read at any place by many processes, as long as they are what they were."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from lessonplan.data.encoded import StorageChanged
from lessonplan.data.shards.index import Stamp

_OPEN = 128  # files a process holds open; systems allow some 1,024


class File:
    """A file that is open for reading at any place, by several threads and by forked processes.

    It is closed when nobody reads from it any more.
    """

    def __init__(self, path: str) -> None:
        self.handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        self._alone = threading.Lock()

    def read(self, size: int, start: int) -> bytes:
        """At most so many bytes from a place on."""
        if hasattr(os, "pread"):
            return os.pread(self.handle, size, start)
        with self._alone:
            os.lseek(self.handle, start, os.SEEK_SET)
            return os.read(self.handle, size)

    def expect(self, start: int, size: int) -> None:
        """Say what is going to be read, so that the system fetches it in the meantime."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.handle, start, size, os.POSIX_FADV_WILLNEED)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)


class Files:
    """The files of an index, opened when they are read from, the last 128 of them held open.

    Args:
        stamps: what they were when they were indexed.
    """

    def __init__(self, stamps: Sequence[Stamp]) -> None:
        self.stamps = stamps
        self._forget()

    def _forget(self) -> None:
        self._open: OrderedDict[int, File] = OrderedDict()
        self._alone = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"stamps": self.stamps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.stamps = state["stamps"]
        self._forget()

    def __getitem__(self, number: int) -> File:
        """A file, which is what it was.

        Raises:
            StorageChanged: it was changed since it was indexed, or is gone.
        """
        stamp = self.stamps[number]
        with self._alone:
            file = self._open.get(number)
            if file is None:
                try:
                    file = File(stamp.path)
                except OSError as e:
                    raise StorageChanged(
                        f"{stamp.path} cannot be read any more ({e.strerror}): put it back"
                    ) from e
                self._open[number] = file
                if len(self._open) > _OPEN:
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
        told = os.fstat(file.handle)
        if (told.st_size, told.st_mtime_ns) != stamp[1:]:
            raise StorageChanged(
                f"{stamp.path} was changed since it was indexed: leave shards alone while they are read"
            )
        return file
