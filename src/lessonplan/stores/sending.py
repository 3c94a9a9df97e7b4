"""A thread that sends what work leaves in a copy, and never stands in its way."""

from __future__ import annotations

import threading
import time

from lessonplan.errors import first_line
from lessonplan.stores.holding import Holding
from lessonplan.stores.objects import StoreError
from lessonplan.stores.sync import Sync

PERIOD_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 120.0
PATIENCE_SECONDS = 60.0
"""At the end, for a store that does not answer."""
_SHARE = 20  # times what a look at an unchanged folder took passes before the next one


class Sender:
    """Rounds of sending, in the background, until ``finish``.

    Attributes:
        why: why the last round failed, in one sentence; None if it did not.
    """

    def __init__(self, sync: Sync, holding: Holding) -> None:
        self._sync, self._holding = sync, holding
        self.why: str | None = None
        self._lasting = False
        self._failing_since: float | None = None
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"sending to {sync.objects.url}", daemon=True)
        self._thread.start()

    def finish(self) -> bool:
        """Send what is left, for as long as the store answers; whether all of it is there.

        An interrupt ends the waiting, and what was not sent stays in the copy.
        """
        self._finishing.set()
        try:
            while self._thread.is_alive():
                self._thread.join(0.2)  # where it waits for good no interrupt is heard
                due = self._sync.due
                if due is not None and time.monotonic() > due:  # a connection that hangs
                    self.why = f"{self._sync.objects.url} does not answer any more"
                    break
        finally:
            self._sync.stopped = True
        return self.why is None and not self._thread.is_alive()

    def _work(self) -> None:
        wait = PERIOD_SECONDS
        while True:
            last = self._finishing.wait(wait)
            began = time.monotonic()
            sent = self._round(last)
            if self._sync.stopped or (self.why is not None and self._lasting and last):
                return
            if self.why is None:
                if last and not sent:
                    return
                wait = max(PERIOD_SECONDS, _SHARE * (time.monotonic() - began) if not sent else 0)
            elif last:
                assert self._failing_since is not None
                if time.monotonic() - self._failing_since > PATIENCE_SECONDS:
                    return
                wait = 0.0
                time.sleep(min(PATIENCE_SECONDS / 10, 5.0))
            else:
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _round(self, last: bool) -> int:
        """One round; how much was sent. What goes wrong is noted, and tried again later."""
        try:
            if not self._holding.still():
                self._fail("another process took it while this one did not answer", lasting=True)
                return 0
            sent = self._sync.send(all_of_it=last)
            if last and not sent:
                sent = self._sync.confirm()
        except Exception as error:
            self._fail(
                str(error) if isinstance(error, StoreError) else first_line(error),
                getattr(error, "lasting", False),
            )
            return 0
        self.why, self._lasting, self._failing_since = None, False, None
        return sent

    def _fail(self, why: str, lasting: bool) -> None:
        self.why, self._lasting = why, lasting
        self._failing_since = self._failing_since or time.monotonic()
