"""Checkpoints that survive a kill at any moment and never execute code."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from lessonplan.errors import LessonplanWarning
from lessonplan.files import write_atomically

_MAGIC = b"lessonplan-checkpoint-1"
_KEPT = 2


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
        for path in self._newest_first():
            state = self._read(path)
            if state is not None:
                return state
            warnings.warn(
                f"checkpoint {path} is damaged and is skipped; training goes on from the one before, if any",
                LessonplanWarning,
                stacklevel=2,
            )
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
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
        except (pickle.UnpicklingError, RuntimeError, EOFError):
            return None
        return state if isinstance(state, dict) else None

    @staticmethod
    def _payload(path: Path) -> bytes | None:
        """The content of a checkpoint whose length and checksum are right, else None."""
        header, _, payload = path.read_bytes().partition(b"\n")
        parts = header.split(b" ")
        sound = (
            len(parts) == 3
            and parts[0] == _MAGIC
            and parts[2] == b"%d" % len(payload)
            and parts[1] == hashlib.sha256(payload).hexdigest().encode()
        )
        return payload if sound else None
