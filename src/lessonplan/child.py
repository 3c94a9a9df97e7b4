"""Python processes that this package starts for itself."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


def python(code: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """A command that runs code as ``python -c`` does, but imports from where this process does.

    ``python -c`` and ``python -m`` look into the working directory first, where somebody else's ``numpy.py`` may
    lie among data.

    Args:
        code: whose first line may stand behind a semicolon.
        *arguments: what ``sys.argv[1:]`` is then.
        options: of Python.
    """
    return [sys.executable, *options, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}", *arguments]


@contextmanager
def reader(code: str, *arguments: str, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads a file which may crash it: it has so many seconds, and is gone behind ``with``.

    Args:
        code: see ``python``.
        *arguments: likewise.
        seconds: after which it is killed, so that its pipes end.
    """
    child = subprocess.Popen(
        python(code, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    timer = threading.Timer(seconds, child.kill)
    timer.start()
    try:
        yield child
    finally:
        timer.cancel()
        child.kill()
        for pipe in (child.stdin, child.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # what was not read any more
                pipe.close()
        child.wait()
