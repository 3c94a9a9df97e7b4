"""A request to end, from whoever it comes, ends work as Ctrl-C does: saved, and in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """While inside, SIGTERM raises ``KeyboardInterrupt``, where nobody has other plans for it.

    Containers and schedulers send it some seconds before they kill. In other threads than the main one signals
    cannot be caught.
    """
    untouched = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if not untouched:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """While inside, an interrupt that a library swallows, or takes for an error of its own, is one all the same.

    C code that calls Python back may do so: Matplotlib's tells of an "Invalid affine transformation matrix".
    """
    raised = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        try:
            previous[number](number, frame)
        except BaseException:
            raised = True
            raise

    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        previous = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        previous = {number: handler for number, handler in previous.items() if callable(handler)}
    for number in previous:
        signal.signal(number, note)
    try:
        yield
    except Exception as error:
        if raised:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if raised:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
