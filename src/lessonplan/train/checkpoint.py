"""Checkpoints that survive a kill at any moment and never execute code."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from lessonplan.errors import LessonplanWarning, first_line, out_of_memory
from lessonplan.files import write_atomically

_MAGIC = b"lessonplan-checkpoint-1"
_KEPT = 2
T = TypeVar("T")


class Checkpoints:
    """A folder of checkpoints: the newest two are kept, each with a checksum.

    Args:
        folder: made when the first checkpoint is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write a checkpoint, verify it, then let go of all but the newest two.

        Args:
            step: number of updates so far; names the file.
            state: tensors and primitives in dicts, lists and tuples.

        Raises:
            DataError: the disk is full; the previous checkpoints are still there.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getvalue()
        digest = hashlib.sha256(payload).hexdigest().encode()
        path = self.folder / f"step-{step:010d}.ckpt"
        write_atomically(path, b"%s %s %d\n" % (_MAGIC, digest, len(payload)) + payload)
        if self._payload(path) is not None:
            for old in self._newest_first()[_KEPT:]:
                old.unlink(missing_ok=True)
        return path

    def load_newest(self) -> dict[str, Any] | None:
        """The state of the newest sound checkpoint, or None.

        Others are skipped with a warning and renamed, so that they do not count as the newest any more.
        """
        return self.resume(lambda state: state)

    def resume(
        self, take: Callable[[dict[str, Any]], T], before: Callable[[], dict[str, Any]] | None = None
    ) -> T | None:
        """Have the newest checkpoint that can be used taken back.

        Args:
            take: takes back a state. Whatever it raises, the checkpoint counts as damaged.
            before: gives the present state, which is taken back if no checkpoint can be used.

        Returns:
            What ``take`` gave, or None where there is no checkpoint that can be used.
        """
        kept: dict[str, Any] | None = None
        for path in self._newest_first():
            state = self._read(path)
            reason = "is damaged"
            if state is not None:
                if kept is None and before is not None:
                    kept = copy.deepcopy(before())
                try:
                    return take(state)
                except (
                    Exception
                ) as error:  # its checksum is right, but it is not this run's, or not of this version
                    if out_of_memory(error):
                        raise
                    reason = f"is damaged or another run's ({type(error).__name__}: {first_line(error)})"
            warnings.warn(
                f"checkpoint {path} {reason} and is skipped; training goes on from the one before, if any",
                LessonplanWarning,
                stacklevel=3,
            )
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
        if kept is not None:
            take(kept)
        return None

    def newest(self) -> Path | None:
        """The newest checkpoint's file, if any."""
        return next(iter(self._newest_first()), None)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    @classmethod
    def _read(cls, path: Path) -> dict[str, Any] | None:
        """The state in a checkpoint, or None if it is damaged or holds more than tensors and primitives."""
        payload = cls._payload(path)
        if payload is None:
            return None
        try:
            state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a lying archive makes the reader raise
            if out_of_memory(error):
                raise
            return None
        return state if isinstance(state, dict) else None

    @staticmethod
    def _payload(path: Path) -> bytes | None:
        """The content of a checkpoint whose length and checksum are right, else None."""
        try:
            header, _, payload = path.read_bytes().partition(b"\n")
        except OSError:  # a folder, a link to nowhere, a disk that fails
            return None
        parts = header.split()
        sound = (
            len(parts) == 3
            and parts[0] == _MAGIC
            and parts[2] == b"%d" % len(payload)
            and parts[1] == hashlib.sha256(payload).hexdigest().encode()
        )
        return payload if sound else None
