"""Ctrl-C ends a run at the next batch, or within a second if the batch takes longer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_PATIENCE_SECONDS = 1.0
_Handler = Callable[[int, FrameType | None], Any] | int | None


class GracefulInterrupt:
    """While active, the first SIGINT or SIGTERM sets ``requested``; a second one, or a second's wait, interrupts.

    In other threads than the main one signals cannot be caught, and Python's own behaviour stays.

    Args:
        twice: whether a request may come from two sides, as that of a terminal comes again from torchrun: a second
            one changes nothing then.
    """

    def __init__(self, *, twice: bool = False) -> None:
        self.requested = False
        self._twice = twice
        self._active = threading.current_thread() is threading.main_thread()
        self._previous: dict[int, _Handler] = {}

    def __enter__(self) -> GracefulInterrupt:
        if self._active:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
            if hasattr(signal, "SIGALRM"):
                self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._give_up)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.acknowledge()
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def acknowledge(self) -> None:
        """The request was heard: what follows may take its time."""
        if hasattr(signal, "SIGALRM") and self._active:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and self._twice:
            return
        if self.requested or not hasattr(signal, "SIGALRM"):
            self._give_up(number, frame)
        self.requested = True
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_SECONDS)

    @staticmethod
    def _give_up(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt
